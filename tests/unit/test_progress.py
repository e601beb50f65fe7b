"""rawjson -> events. The samples in data/ were recorded from buildx 0.29.1 with BuildKit 0.25."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildorch.buildx.progress import MAX_LINE, MAX_LOG_LINE, TAIL_LINES, Progress
from buildorch.events import Event, StepFinished, StepLogged, StepProgress, StepStarted, StepWarned
from buildorch.record import Steps

DATA = Path(__file__).with_name("data")
SAMPLES = sorted(path.stem for path in DATA.glob("*.rawjson"))


def sample(name: str) -> bytes:
    return (DATA / f"{name}.rawjson").read_bytes()


def read(*chunks: bytes) -> tuple[Progress, list[Event]]:
    progress = Progress("app")
    events = [event for chunk in chunks for event in progress.feed(chunk)]
    return progress, [*events, *progress.close()]


@functools.cache
def read_whole(name: str) -> tuple[Progress, list[Event]]:
    return read(sample(name))


def line(**status: Any) -> bytes:
    return json.dumps(status).encode() + b"\n"


def log(text: bytes, vertex: str = "sha256:a") -> bytes:
    return line(logs=[{"vertex": vertex, "stream": 1, "data": base64.b64encode(text).decode(), "timestamp": "x"}])


def logged(events: list[Event]) -> list[str]:
    return [text for event in events if isinstance(event, StepLogged) for text in event.lines]


def vertex(digest: str = "sha256:a", name: str = "[1/1] RUN x", **more: Any) -> bytes:
    return line(vertexes=[{"digest": digest, "name": name, **more}])


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("executed", Steps(total=4, cached=0, executed=4)),
        ("cached", Steps(total=4, cached=4, executed=0)),
        ("copy_link", Steps(total=2, cached=0, executed=2)),
        ("failed_step", Steps(total=3, cached=0, executed=2)),
    ],
)
def test_steps_are_counted_without_from_and_a_copy_link_once(name: str, steps: Steps):
    progress, _ = read_whole(name)

    assert progress.steps == steps


def test_a_base_image_is_known_by_its_short_name_and_digest():
    progress, _ = read_whole("executed")

    assert progress.bases == {
        "python:3.13-slim": "sha256:0782660d1e0b0e80ed04b96e9f7a459e059673e54072fce47a93d1e6a9d4bcff"
    }


def test_what_a_step_prints_comes_as_whole_lines_with_bad_bytes_replaced():
    _, events = read_whole("executed")

    assert logged(events) == ["one", "two more", "\ufffd\ufffd bytes \x1b[31mred", "err"]


def test_a_step_says_where_it_stands_in_its_stage():
    _, events = read_whole("executed")

    run = next(event for event in events if isinstance(event, StepStarted) and "RUN" in event.name)
    assert (run.step, run.index, run.total) == (True, 3, 3)
    assert run.name.startswith("[deps 3/3] RUN printf")


def test_what_is_not_an_instruction_is_not_a_step():
    _, events = read_whole("executed")

    inner = {event.name for event in events if isinstance(event, StepStarted) and not event.step}
    assert {"[internal] load build context", "exporting to image"} <= inner


def test_every_vertex_that_starts_is_finished_with_its_duration():
    _, events = read_whole("executed")

    started = {event.vertex for event in events if isinstance(event, StepStarted)}
    finished = {event.vertex: event for event in events if isinstance(event, StepFinished)}
    assert started == finished.keys()
    run = next(event for event in finished.values() if "RUN" in event.name)
    assert run.duration_s == pytest.approx(0.224, abs=0.001)


def test_a_cached_step_is_said_to_be_cached():
    _, events = read_whole("cached")

    steps = [event for event in events if isinstance(event, StepFinished) and event.step and "FROM" not in event.name]
    assert len(steps) == 4
    assert all(event.cached for event in steps)


def test_a_build_check_speaks_once_with_its_line_and_its_page():
    progress, events = read(sample("executed") * 2)

    [warned] = [event for event in events if isinstance(event, StepWarned)]
    assert warned.message.startswith("ConsistentInstructionCasing: Command 'copy' should match")
    assert warned.line == 5
    assert warned.url.endswith("/rule/consistent-instruction-casing/")
    assert list(progress.warnings) == [warned.message]


def test_moved_bytes_are_told_per_item():
    _, events = read_whole("executed")

    moved = [event for event in events if isinstance(event, StepProgress) and event.item == "transferring context:"]
    assert [event.current for event in moved] == [2, 28, 39]


def test_a_failure_is_known_by_its_vertex_its_last_20_lines_and_its_dockerfile_line():
    progress, events = read_whole("failed_step")

    assert progress.failed is not None
    assert progress.failed.stage == "deps"
    assert progress.failed.error.endswith("did not complete successfully: exit code: 3")
    assert len(progress.failed.tail) == TAIL_LINES
    assert list(progress.failed.tail) == [*(f"line {at}" for at in range(12, 31)), "last without newline"]
    assert progress.excerpt == ("Dockerfile", 3)
    assert progress.message.startswith("failed to build: failed to solve: process")
    [failed] = [event for event in events if isinstance(event, StepFinished) and event.error]
    assert failed.name == progress.failed.name


def test_a_vertex_that_was_only_cancelled_is_not_the_one_that_failed():
    progress, _ = read(
        vertex("sha256:a", error="context canceled: context canceled", started="x", completed="x"),
        vertex("sha256:b", "[2/2] RUN y", error="exit code: 1", started="x", completed="x"),
    )

    assert progress.failed is not None
    assert progress.failed.digest == "sha256:b"


def test_where_every_vertex_was_cancelled_the_first_is_named():
    progress, _ = read(vertex(error="context canceled"))

    assert progress.failed is not None
    assert progress.failed.digest == "sha256:a"


def test_a_line_that_comes_in_several_logs_is_joined():
    _, events = read(log(b"one\ntw"), log(b"o and"), log(b" more\nthree"), vertex(started="x", completed="y"))

    assert logged(events) == ["one", "two and more", "three"]


def test_a_last_line_without_its_end_is_told_when_the_build_ends():
    _, events = read(log(b"no end"))

    assert logged(events) == ["no end"]


def test_every_state_of_a_progress_bar_is_a_line():
    _, events = read(log(b"10%\r20%\r100%\r\ndone\n"))

    assert logged(events) == ["10%", "20%", "100%", "done"]


def test_a_long_line_is_cut_into_pieces():
    _, events = read(log(b"x" * (2 * MAX_LOG_LINE + 5) + b"\n"))

    assert [len(text) for text in logged(events)] == [MAX_LOG_LINE, MAX_LOG_LINE, 5]


def test_two_vertexes_lines_are_not_mixed():
    _, events = read(log(b"a1", "sha256:a"), log(b"b1\n", "sha256:b"), log(b"a2\n", "sha256:a"))

    assert logged(events) == ["b1", "a1a2"]


def test_a_vertex_with_several_intervals_starts_and_finishes_each():
    _, events = read(
        vertex(started="2026-01-01T00:00:00Z", completed="2026-01-01T00:00:01.5Z"),
        vertex(started="2026-01-01T00:00:02Z"),
        vertex(started="2026-01-01T00:00:02Z", completed="2026-01-01T00:00:02.25Z"),
        vertex(started="2026-01-01T00:00:02Z", completed="2026-01-01T00:00:02.25Z"),
    )

    assert [event.event for event in events] == ["step_started", "step_finished", "step_started", "step_finished"]
    assert [event.duration_s for event in events if isinstance(event, StepFinished)] == [1.5, 0.25]


@pytest.mark.parametrize(
    ("started", "completed"),
    [("0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"), ("x", "y")],
)
def test_a_time_that_cannot_be_counts_for_nothing(started: str, completed: str):
    _, events = read(vertex(started=started, completed=completed))

    assert [event.duration_s for event in events if isinstance(event, StepFinished)] == [0.0]


def test_nanoseconds_are_understood():
    _, events = read(vertex(started="2026-01-01T00:00:00.123456789Z", completed="2026-01-01T00:00:01.623456789Z"))

    assert [event.duration_s for event in events if isinstance(event, StepFinished)] == [1.5]


def test_lines_for_people_are_kept_and_the_last_error_is_the_message():
    progress, _ = read(b"WARNING: something\r\nERROR: first\nERROR: second\nand more\n")

    assert progress.message == "second\nand more"


def test_without_an_error_line_the_last_lines_are_the_message():
    progress, _ = read(b"\n".join(f"line {at}".encode() for at in range(9)) + b"\nunknown flag: --x")

    assert progress.message.splitlines() == ["line 5", "line 6", "line 7", "line 8", "unknown flag: --x"]


def test_only_the_last_200_lines_for_people_are_kept():
    progress, _ = read(b"x\n" * 500)

    assert len(progress.human) == 200


@pytest.mark.parametrize("name", SAMPLES)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=12))
def test_the_chunks_borders_do_not_change_the_events(name: str, cuts: list[int]):
    data = sample(name)
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    progress, events = read(*(data[start:end] for start, end in itertools.pairwise(borders)))

    whole, expected = read_whole(name)
    assert events == expected
    assert (progress.steps, progress.message, progress.excerpt) == (whole.steps, whole.message, whole.excerpt)


def test_single_bytes_give_the_same_events_too():
    data = sample("missing_file")

    assert read(*(data[at : at + 1] for at in range(len(data))))[1] == read(data)[1]


@given(st.lists(st.sampled_from(["é", "€", "\U0001f600", "a", "\n", "\r\n", "\r", "\t"])), st.lists(st.integers(0, 99)))
def test_a_log_cut_inside_a_character_or_a_line_end_gives_the_same_lines(parts: list[str], cuts: list[int]):
    data = "".join(parts).encode()
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    _, events = read(*(log(data[start:end]) for start, end in itertools.pairwise(borders)))

    assert logged(events) == logged(read(log(data))[1])


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["sha256:a", "aGk="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = {
    "vertexes": ["digest", "name", "started", "completed", "cached", "error", "progressGroup", "inputs"],
    "statuses": ["id", "vertex", "current", "total"],
    "logs": ["vertex", "data", "stream"],
    "warnings": ["vertex", "short", "url", "range", "detail"],
}
_STATUS = st.fixed_dictionaries(
    {},
    optional={
        kind: _JSON | st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(keys, _JSON)), max_size=3)
        for kind, keys in _KEYS.items()
    },
)


@given(st.binary(max_size=400))
@example(b"\xff\xfe\n\x00{\n{\n[]\n{}\n{]\n\n\r\r\n")
@example(b"{" + b'"a":[' * 100_000 + b"\n")
@example(line(vertexes=[{"digest": [1], "started": [1], "completed": {"a": 1}}]))
@example(line(vertexes=[{"digest": "a", "name": f"[{'9' * 5000}/1] RUN x"}]))
@example(line(logs=[{"vertex": "a", "data": "é"}, {"vertex": "a", "data": "a"}, {"vertex": "a", "data": 7}]))
@example(line(warnings=[{"short": "aGk=", "range": [{"start": {"line": "x"}}]}]))
@example(b'{"vertexes":[{"digest":"a","name":"\\ud800"}]}\n')
@example(b'{"statuses":[{"current":' + b"9" * 5000 + b"}]}\n")
@example(b"x\nDockerfile:" + b"9" * 5000 + b"\n---\n")
def test_no_bytes_make_the_reader_raise(data: bytes):
    progress, _ = read(data)

    assert isinstance(progress.message, str)
    assert progress.excerpt is None or progress.excerpt[1] >= 0


@pytest.mark.proof
@settings(max_examples=30)
@given(st.lists(_STATUS, max_size=4))
def test_no_object_makes_the_reader_raise(statuses: list[dict[str, Any]]):
    progress, _ = read(*(json.dumps(status).encode() + b"\n" for status in statuses))

    assert progress.steps.total >= progress.steps.cached + progress.steps.executed


@pytest.mark.parametrize("first", [b"{", b"x"])
def test_a_line_of_100_mb_is_left_out_and_takes_a_few_megabytes(first: bytes):
    chunk = b"x" * 65536
    progress = Progress("app")
    tracemalloc.start()
    try:
        progress.feed(first)
        for _ in range(1600):
            progress.feed(chunk)
        progress.feed(b"\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2 * MAX_LINE
    assert list(progress.human) == [f"a line of more than {MAX_LINE} bytes was left out"]
    assert [event.event for event in progress.feed(vertex(started="x"))] == ["step_started"]


@pytest.mark.proof
def test_a_step_that_prints_many_megabytes_without_a_line_end_takes_few():
    chunk = log(b"x" * 49152)
    progress = Progress("app")
    seen = 0
    tracemalloc.start()
    try:
        for _ in range(400):
            seen += sum(map(len, logged(progress.feed(chunk))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * 1024 * 1024
    assert seen + sum(map(len, logged(progress.close()))) == 400 * 49152


def test_a_line_just_below_the_cap_is_read():
    _, events = read(log(b"x" * (MAX_LINE * 3 // 4 - 1024)))

    assert sum(map(len, logged(events))) == MAX_LINE * 3 // 4 - 1024


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123Z"),
        ("2026-01-31T14:00:00.5+02:00", "2026-01-31T12:00:00.500Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", ""),
        ("0001-01-01T00:00:00+14:00", ""),
        ("yesterday", ""),
    ],
)
def test_a_steps_time_is_told_in_utc_to_the_millisecond_and_nothing_where_it_is_none(said: str, at: str):
    [finished] = [e for e in read(vertex(started=said, completed=said))[1] if isinstance(e, StepFinished)]

    assert finished.started_at == at
