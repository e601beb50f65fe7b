"""The event stream itself, one JSON object a line.

In: events. Out: lines on a stream. Touches: that stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TextIO

from buildorch.events import Event, to_json

if TYPE_CHECKING:
    from types import TracebackType


class JsonLinesView:
    """Writes every event; the schema is docs/schemas/events.schema.json."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def update(self, event: Event) -> None:
        """Write one line."""
        self._stream.write(to_json(event) + "\n")
        self._stream.flush()
