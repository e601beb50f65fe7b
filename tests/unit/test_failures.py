"""What a failed build says -> the kind of its failure. Texts are what BuildKit and buildx print."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from buildorch.buildx.failures import TREATMENTS, classify
from buildorch.buildx.progress import Progress
from buildorch.errors import EXIT_BUILD_FAILED, EXIT_UNREACHABLE
from buildorch.record import Failure, FailureKind

DATA = Path(__file__).with_name("data")


def failed(text: str = "", *, vertex: str = "", exit_code: int = 1) -> Failure:
    """How a build that printed `text` last, and failed in a vertex with that error, is judged."""
    progress = Progress("app")
    if vertex:
        status = {"vertexes": [{"digest": "sha256:a", "name": "[deps 2/4] RUN x", "error": vertex}]}
        progress.feed(json.dumps(status).encode() + b"\n")
    progress.feed(f"{text}\n".encode())
    progress.close()
    return classify(progress, exit_code)


def recorded(name: str) -> Failure:
    progress = Progress("app")
    progress.feed((DATA / f"{name}.rawjson").read_bytes())
    progress.close()
    return classify(progress, 1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ERROR: Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", "engine_lost"),
        ("ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF", "engine_lost"),
        ("ERROR: failed to solve: Unavailable: closing transport due to: connection error: desc = x", "engine_lost"),
        ('ERROR: no builder "ci" found', "builder_missing"),
        ("ERROR: failed to solve: write /x: no space left on device", "no_space"),
        ("ERROR: failed to solve: ResourceExhausted: failed to extract layer: write: disk quota exceeded", "no_space"),
        ("ERROR: failed to push localhost:5000/x: unexpected status from PUT request to http://h/v2/: 429 Too Many Requests", "rate_limited"),
        ("ERROR: failed to solve: x: toomanyrequests: You have reached your pull rate limit", "rate_limited"),
        ("ERROR: failed to push x: push access denied, repository does not exist or may require authorization", "auth"),
        ("ERROR: failed to solve: failed to authorize: failed to fetch anonymous token: 401 Unauthorized", "auth"),
        ("ERROR: failed to push x: unexpected status from POST request to https://h/v2/: 403 Forbidden", "auth"),
        ("ERROR: failed to solve: failed to read dockerfile: open Dockerfile: no such file or directory", "input_missing"),
        ('ERROR: failed to solve: target stage "final" could not be found', "input_missing"),
        ('ERROR: failed to solve: failed to compute cache key: failed to calculate checksum of ref a::b: "/x": not found', "input_missing"),
        ("ERROR: failed to push x: unexpected status from PUT request to http://h/v2/: 500 Internal Server Error", "registry"),
        ("ERROR: failed to solve: x: unexpected status: 503 Service Unavailable", "registry"),
        ('ERROR: failed to push x: failed to do request: Head "http://h": dial tcp 1.2.3.4:5000: connect: connection refused', "registry"),
        ("ERROR: failed to push x: read tcp: connection reset by peer", "registry"),
        ("ERROR: failed to solve: x: dial tcp: lookup nowhere.example: no such host", "registry"),
        ("ERROR: failed to solve: x: net/http: TLS handshake timeout", "registry"),
        ("ERROR: failed to solve: a:1: failed to resolve source metadata for docker.io/library/a:1: docker.io/library/a:1: not found", "not_found"),
        ("ERROR: failed to solve: x: manifest unknown", "not_found"),
        ("ERROR: failed to solve: lease abc123 not found", "engine_race"),
        ("ERROR: failed to solve: inconsistent graph state in edge x", "engine_race"),
        ("ERROR: unknown flag: --nonsense", "other"),
    ],
)  # fmt: skip
def test_a_builds_last_words_tell_what_kind_of_failure_it_is(text: str, kind: str):
    failure = failed(text)

    assert failure.kind == kind
    assert failure.hint


RECORDED = json.loads((DATA / "failures.json").read_text())
"""What builds said on BuildKit 0.25 and buildx 0.29 when each was made to fail in one way."""


@pytest.mark.parametrize("seen", RECORDED, ids=[seen["case"] for seen in RECORDED])
def test_every_way_to_fail_that_was_seen_has_its_kind(seen: dict[str, str | int]):
    progress = Progress("app")
    if seen["error"]:
        vertex = {"digest": "sha256:a", "name": seen["vertex"], "error": seen["error"]}
        progress.feed(json.dumps({"vertexes": [vertex]}).encode() + b"\n")
    progress.feed(f"ERROR: {seen['said']}\n".encode())
    progress.close()

    failure = classify(progress, int(seen["exit"]))

    treatment = TREATMENTS[FailureKind(seen["kind"])]
    assert (failure.kind, failure.transient, failure.exit_code) == (
        seen["kind"],
        treatment.transient,
        treatment.exit_code,
    )
    assert failure.hint
    assert failure.message
    assert "failed to solve" not in failure.message


FOREIGN = [
    "unexpected status from PUT request to http://h/v2/: 503 Service Unavailable",
    "429 Too Many Requests",
    "connection refused",
    "no space left on device",
    "inconsistent graph state",
    "401 Unauthorized",
    "code = Unavailable",
    'x" did not complete successfully: exit code: 137',
]


@pytest.mark.parametrize("words", FOREIGN)
@pytest.mark.parametrize("end", ["exit code: 1", "unable to find user nope: no matching entries in passwd file"])
def test_a_failing_step_is_one_whatever_words_its_command_holds(words: str, end: str):
    error = f'process "/bin/sh -c echo {words}" did not complete successfully: {end}'

    failure = failed(f"ERROR: failed to build: failed to solve: {error}", vertex=error)

    assert (failure.kind, failure.transient) == (FailureKind.STEP_FAILED, False)


@pytest.mark.parametrize("words", FOREIGN)
def test_a_failing_step_is_one_whatever_it_prints(words: str):
    error = 'process "/bin/sh -c ./test" did not complete successfully: exit code: 1'
    progress = Progress("app")
    log = {"vertex": "sha256:a", "stream": 2, "data": base64.b64encode(f"ERROR: {words}\n".encode()).decode()}
    progress.feed(json.dumps({"vertexes": [{"digest": "sha256:a", "name": "[2/2] RUN ./test"}]}).encode() + b"\n")
    progress.feed(json.dumps({"logs": [log]}).encode() + b"\n")
    progress.feed(json.dumps({"vertexes": [{"digest": "sha256:a", "error": error}]}).encode() + b"\n")
    progress.feed(f"------\n > [2/2] RUN ./test:\nERROR: {words}\n------\n".encode())
    progress.feed(f"ERROR: failed to build: failed to solve: {error}\n".encode())
    progress.close()

    failure = classify(progress, 1)

    assert (failure.kind, failure.transient) == (FailureKind.STEP_FAILED, False)
    assert failure.log == (f"ERROR: {words}",)


@pytest.mark.parametrize("words", FOREIGN)
def test_a_missing_file_is_one_whatever_it_is_called(words: str):
    failure = failed(vertex=f'failed to calculate checksum of ref a::b: "/{words}": not found')

    assert (failure.kind, failure.transient) == (FailureKind.INPUT_MISSING, False)


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ("failed to mount /tmp/x: write /var/lib/docker/y: no space left on device", FailureKind.NO_SPACE),
        ("rpc error: code = Unavailable desc = error reading from server: EOF", FailureKind.ENGINE_LOST),
        ("context canceled", FailureKind.CANCELLED),
        ("exit code: 137: context canceled: context canceled", FailureKind.CANCELLED),
    ],
)
def test_a_step_that_the_engine_could_not_carry_out_is_not_one_that_failed(end: str, kind: FailureKind):
    assert failed(vertex=f'process "/bin/sh -c x" did not complete successfully: {end}').kind is kind


@pytest.mark.parametrize("last", ["exit code: 1", ""])
def test_an_import_of_cache_that_fails_is_not_what_the_build_failed_for(last: str):
    error = f'process "/bin/sh -c x" did not complete successfully: {last}' if last else "dockerfile parse error"
    progress = Progress("app")
    cache = {
        "digest": "sha256:a",
        "name": "importing cache manifest from h/cache:1",
        "error": "unexpected status from HEAD request to http://h/v2/: 503 Service Unavailable",
    }
    vertexes = [cache, {"digest": "sha256:b", "name": "[2/2] RUN x", "error": error}] if last else [cache]
    progress.feed(json.dumps({"vertexes": vertexes}).encode() + b"\n")
    progress.feed(f"ERROR: failed to build: failed to solve: {error}\n".encode())
    progress.close()

    failure = classify(progress, 1)

    assert (failure.kind, failure.transient) == (FailureKind.STEP_FAILED if last else FailureKind.OTHER, False)


def test_of_several_vertexes_that_failed_the_one_counts_that_buildx_names_last():
    progress = Progress("app")
    vertexes = [
        {"digest": "sha256:a", "name": "[a 1/1] ADD http://h/x /", "error": "invalid response status 503"},
        {"digest": "sha256:b", "name": "[b 1/1] ADD http://h/y /", "error": "invalid response status 404"},
    ]
    progress.feed(json.dumps({"vertexes": vertexes}).encode() + b"\n")
    progress.feed(b"ERROR: failed to build: failed to solve: invalid response status 404\n")
    progress.close()

    assert classify(progress, 1).kind is FailureKind.NOT_FOUND


def test_a_vertex_that_was_cancelled_does_not_hide_that_the_engine_went_away():
    text = "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF"

    assert failed(text, vertex="context canceled").kind is FailureKind.ENGINE_LOST
    assert failed("ERROR: failed to solve: Canceled: context canceled", vertex="context canceled").kind == "cancelled"


def test_buildkits_own_errors_are_internal_by_their_words_or_by_buildxs_exit_code():
    assert failed("ERROR: failed to solve: Internal: something broke").kind is FailureKind.INTERNAL
    assert failed("panic: runtime error: index out of range").kind is FailureKind.INTERNAL
    assert failed("ERROR: whatever", exit_code=100).kind is FailureKind.INTERNAL
    assert failed("ERROR: whatever", exit_code=1).kind is FailureKind.OTHER


def test_every_kind_has_a_treatment_with_a_next_step():
    assert set(TREATMENTS) == set(FailureKind)
    assert all(treatment.hint for treatment in TREATMENTS.values())


def test_what_is_the_users_to_mend_is_never_tried_again():
    transient = {kind for kind, treatment in TREATMENTS.items() if treatment.transient}

    assert transient == {
        FailureKind.RATE_LIMITED,
        FailureKind.REGISTRY,
        FailureKind.ENGINE_RACE,
        FailureKind.CONTEXT_CHANGED,
    }


def test_the_engines_race_is_not_taken_for_a_missing_image_though_it_says_not_found():
    failure = failed(
        "ERROR: failed to build: failed to solve: failed to prepare extraction snapshot "
        '"extract-1-x sha256:2": parent snapshot sha256:3 does not exist: not found'
    )

    assert failure.kind is FailureKind.ENGINE_RACE
    assert failure.transient


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, FailureKind.STEP_FAILED), (137, FailureKind.OUT_OF_MEMORY), (139, FailureKind.STEP_FAILED)],
)
def test_a_steps_exit_code_tells_a_kill_for_want_of_memory_from_a_failure(code: int, kind: FailureKind):
    failure = failed(vertex=f'process "/bin/sh -c x" did not complete successfully: exit code: {code}')

    assert (failure.kind, failure.message) == (kind, f"the step exited with {code}")


def test_what_a_failing_command_is_called_does_not_change_its_kind():
    failure = failed(
        vertex="process \"/bin/sh -c grep 'no space left on device' connection refused\" "
        "did not complete successfully: exit code: 2"
    )

    assert failure.kind is FailureKind.STEP_FAILED


def test_the_vertexs_own_error_counts_before_the_last_words():
    failure = failed("ERROR: failed to solve: manifest unknown", vertex="write /x: no space left on device")

    assert failure.kind is FailureKind.NO_SPACE
    assert failure.message == "write /x: no space left on device"


@pytest.mark.parametrize(
    ("text", "transient", "exit_code"),
    [
        ("inconsistent graph state", True, EXIT_BUILD_FAILED),
        ("connection refused", True, EXIT_UNREACHABLE),
        ("429 Too Many Requests", True, EXIT_UNREACHABLE),
        ("code = Unavailable", False, EXIT_UNREACHABLE),
        ('no builder "x" found', False, EXIT_UNREACHABLE),
        ("no space left on device", False, EXIT_BUILD_FAILED),
        ("401 Unauthorized", False, EXIT_BUILD_FAILED),
        ("manifest unknown", False, EXIT_BUILD_FAILED),
        ("failed to read dockerfile", False, EXIT_BUILD_FAILED),
        ('process "x" did not complete successfully: exit code: 1', False, EXIT_BUILD_FAILED),
        ("anything else", False, EXIT_BUILD_FAILED),
    ],
)
def test_only_what_may_pass_is_tried_again_and_only_what_lies_outside_exits_with_4(
    text: str, *, transient: bool, exit_code: int
):
    failure = failed(f"ERROR: {text}")

    assert (failure.transient, failure.exit_code) == (transient, exit_code)


def test_a_recorded_failing_step_is_told_with_stage_step_line_and_log():
    failure = recorded("failed_step")

    assert (failure.kind, failure.message) == (FailureKind.STEP_FAILED, "the step exited with 3")
    assert (failure.stage, failure.dockerfile, failure.line) == ("deps", "Dockerfile", 3)
    assert failure.step.startswith("[deps 3/3] RUN for i in")
    assert failure.log[-1] == "last without newline"
    assert len(failure.log) == 20


def test_a_recorded_missing_file_is_told_with_its_line():
    failure = recorded("missing_file")

    assert (failure.kind, failure.line) == (FailureKind.INPUT_MISSING, 2)
    assert '"/nothing.txt": not found' in failure.message


def test_a_recorded_missing_base_is_told_with_its_line():
    failure = recorded("missing_base")

    assert (failure.kind, failure.line) == (FailureKind.NOT_FOUND, 1)
    assert failure.message == "docker.io/library/nothing-of-this-name:1: not found"


def test_a_build_that_says_nothing_is_told_by_its_exit_code():
    failure = classify(Progress("app"), 125)

    assert (failure.kind, failure.message) == (
        FailureKind.OTHER,
        "docker buildx build exited with 125 and said nothing",
    )


def test_a_message_is_its_first_line_without_the_words_that_say_nothing():
    failure = failed(
        "ERROR: failed to build: failed to solve: dockerfile parse error on line 2: unknown instruction: FRM\nmore"
    )

    assert failure.message == "dockerfile parse error on line 2: unknown instruction: FRM"


def test_an_endless_message_is_cut():
    assert len(failed("ERROR: " + "x" * 10_000).message) == 2000
