"""What a run wrote about itself -> its `Report`: from the run record's text, or from its event stream.

In: text that anybody may have written. Out: `Report`. Touches nothing.

`run_started`, `service_finished` and `run_finished` are the events that hold a record; the others are held to their
schema, and say nothing that is not in it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from buildorch.errors import UsageError
from buildorch.events import Event, RunFinished, RunStarted, ServiceFinished
from buildorch.record import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from buildorch.record import ServiceRecord

MOST_BYTES = 512 * 1024 * 1024
"""Of a file that is read: an event stream with every line of every log may be large, and is held in memory."""
_EVENT = '{"event":'
"""What each line of the stream begins with; on stderr other lines may stand between them."""
_LARGEST = 2**63 - 1


def read_report(text: str, source: str) -> Report:
    """The report of a run record's text, or of a run's event stream.

    Raises:
        UsageError: it is neither, or the stream ends before the run does.
    """
    lines = text.splitlines()
    if any(line.startswith(_EVENT) for line in lines):
        return replay(lines, source)
    return report_from_json(text, source)


def report_from_json(text: str, source: str = "the text") -> Report:
    """What `Report.to_json` wrote.

    Raises:
        UsageError: the text is no run record.
    """
    report: Report = _parsed(text, Report, source, "a run record", hint="`--record FILE` writes one")
    return report


def replay(lines: Iterable[str], source: str = "the events") -> Report:
    """The report of a run, from the lines of its event stream: equal to the record that the run wrote.

    Raises:
        UsageError: a line is no event, the events are not one whole run's, or they do not fit each other.
    """
    records: dict[str, ServiceRecord] = {}
    started: list[RunStarted] = []
    finished: list[RunFinished] = []
    for event in _events(lines, source):
        match event:
            case RunStarted():
                started.append(event)
            case ServiceFinished():
                records[event.service] = event.record
            case RunFinished():
                finished.append(event)
            case _:
                pass
    if not started or not finished:
        where = "end before the run does" if started else "begin after the run does"
        raise UsageError(f"{source}: the events {where}", hint="give it all that --progress json wrote")
    if len(started) + len(finished) > 2:
        raise UsageError(f"{source} has the events of several runs", hint="give it those of one")
    return _fitting(started[0], records, finished[0].report, source)


def _fitting(started: RunStarted, records: dict[str, ServiceRecord], last: Report, source: str) -> Report:
    """The report that the events make; a service that the run's end came before is in its last event alone."""
    services = {name: records.get(name) or last.services.get(name) for name in started.services}
    rebuilt = dataclasses.replace(
        last,
        run_id=started.run_id,
        project=started.project,
        jobs=started.jobs,
        engine=started.engine,
        services={name: record for name, record in services.items() if record},
    )
    if rebuilt != last or list(rebuilt.services) != list(started.services):
        raise UsageError(f"{source}: the run's last event does not fit those before it", hint="give it one run's")
    return rebuilt


def _events(lines: Iterable[str], source: str) -> Iterator[Event]:
    from pydantic import Field  # noqa: PLC0415 - only who reads a stream again pays

    union: Any = Annotated[Event, Field(discriminator="event")]
    adapter = _adapter(union)
    for number, line in enumerate(lines, 1):
        if line.startswith(_EVENT):
            yield _parsed(line, adapter, f"{source}, line {number}", "an event", hint="see `buildorch schema events`")


def _adapter(kind: Any) -> Any:  # noqa: ANN401 - a pydantic TypeAdapter
    from pydantic import TypeAdapter  # noqa: PLC0415 - 40 ms, only who reads a record from a file pays

    return TypeAdapter(kind)


def _parsed(text: str, kind: Any, source: str, what: str, *, hint: str) -> Any:  # noqa: ANN401 - of that kind
    """The value that a JSON text holds, each field of its type, each number finite, each moment one."""
    try:
        _require_moments(json.loads(text, parse_float=_finite, parse_int=_whole, parse_constant=_finite))
        adapter = kind if hasattr(kind, "validate_json") else _adapter(kind)
        return adapter.validate_json(text, strict=True)
    except RecursionError:
        raise UsageError(f"{source} is not {what}: it is nested too deeply", hint=hint) from None
    except ValueError as error:
        raise UsageError(f"{source} is not {what}: {_first_problem(error)}", hint=hint) from None


def _first_problem(error: ValueError) -> str:
    """The first thing that is wrong, in one line; pydantic names all, each in several."""
    listed = getattr(error, "errors", None)
    if listed is None:
        return str(error)
    first = listed(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}".removeprefix(": ")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number that can be counted with")
    return number


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) > _LARGEST:
        raise ValueError("a number is too large to be counted with")
    return number


def _require_moments(value: Any) -> None:  # noqa: ANN401 - plain data
    """See that every time is RFC 3339 with its offset.

    Raises:
        ValueError: one is not.
    """
    if isinstance(value, list):
        for one in value:
            _require_moments(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if isinstance(one, str) and one and (key == "at" or key.endswith("_at")):
                _require_moment(one)
            else:
                _require_moments(one)


def _require_moment(text: str) -> None:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC")
