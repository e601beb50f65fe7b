"""What a failed build says -> the kind of its failure. Texts are what BuildKit and buildx print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildorch.buildx.failures import classify
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
    assert bool(failure.hint) == (kind != "other")


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
        ("did not complete successfully: exit code: 1", False, EXIT_BUILD_FAILED),
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
