"""The command's logging: structlog entries on stderr, as text or JSON. The library itself never calls this.

In: a format. Out: a logger. Touches: structlog's global configuration.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

LogFormat = Literal["text", "json"]


def configured_logger(log_format: LogFormat) -> Any:  # noqa: ANN401 - structlog's proxies are untyped until bound
    """A logger whose entries go to stderr, with a time in UTC."""
    import logging  # noqa: PLC0415 - as structlog

    import structlog  # noqa: PLC0415 - 50 ms and more, only where something is logged

    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.processors.KeyValueRenderer(key_order=["event"])
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    return structlog.get_logger("buildorch")
