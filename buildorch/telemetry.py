"""A run as OpenTelemetry spans, sent when it is over: `export(report, environ)`.

In: a `Report`, and the standard variables. Out: spans at a collector, by OTLP over HTTP. Touches: the network. Loads
OpenTelemetry's SDK, which the extra `buildorch[otel]` brings.

The run is a span, in it each service that was built, in that its steps, with the times of the record. The parent of all
is what TRACEPARENT names (W3C Trace Context), as CI systems and other tools set it.
"""

from __future__ import annotations

import logging
import secrets
from threading import Thread
from typing import TYPE_CHECKING, Any

from buildorch import __version__
from buildorch.report.text import printable
from buildorch.report.timing import timing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildorch.record import Report
    from buildorch.report.timing import Built, Timing

TIMEOUT_S = 2.0
"""For all of it, from the first name that is looked up to the answer: a build does not wait for its telemetry."""


def export(report: Report, environ: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> str:
    """Send the run's spans; what went wrong, or nothing. Without the extra nothing is sent, and nothing said.

    Args:
        report: the run.
        environ: where TRACEPARENT and TRACESTATE are looked for. The SDK itself reads OTEL_* from the process's own.
        timeout_s: how long it may take.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    except ImportError:
        return ""
    _quiet()
    told: list[str] = []

    def send() -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        try:
            made = spans(report, environ)
            sent = OTLPSpanExporter(timeout=timeout_s).export(made) if made else SpanExportResult.SUCCESS
        except (OSError, ValueError) as error:  # its words may hold a header's value, which may be a secret
            told.append(f"the run's spans cannot be sent as the OTEL_* variables say: {type(error).__name__}")
        else:
            told.append("" if sent is SpanExportResult.SUCCESS else "the run's spans were not taken by the collector")

    # The exporter's own deadline is one of each attempt; a name that does not resolve, and a second try, come on top.
    sending = Thread(target=send, daemon=True)
    sending.start()
    sending.join(timeout_s)
    return told[0] if told else f"the run's spans were not sent within {timeout_s:g} s: the collector does not answer"


def _quiet() -> None:
    """Keep the exporter from writing to stderr: each attempt and its address is an entry of the standard log.

    What came of it is told by `export`; a thread that is left behind would go on writing.
    """
    logger = logging.getLogger("opentelemetry.exporter")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def spans(report: Report, environ: Mapping[str, str]) -> Sequence[Any]:
    """The run's spans, ended, the innermost first; none where OTEL_SDK_DISABLED or a sampler says so."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    parent = {name.lower(): environ[name] for name in ("TRACEPARENT", "TRACESTATE") if environ.get(name)}
    kept = InMemorySpanExporter()
    named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": "buildorch"}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False, id_generator=_Ids())  # type: ignore[arg-type]  # its methods are what counts
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("buildorch", __version__)
    _run(tracer, report, timing(report), TraceContextTextMapPropagator().extract(parent))
    return kept.get_finished_spans()


class _Ids:
    """Ids as the SDK's own generator gives them, which takes them from the importing program's `random`.

    A deploy script that seeds it would send every run under the same ids, and lose numbers of its own.
    """

    def generate_span_id(self) -> int:
        return 1 + secrets.randbelow(2**64 - 1)

    def generate_trace_id(self) -> int:
        return 1 + secrets.randbelow(2**128 - 1)

    def is_trace_id_random(self) -> bool:
        return True


def _run(tracer: Any, report: Report, done: Timing, parent: Any) -> None:  # noqa: ANN401 - OpenTelemetry's, an extra
    told = {
        "buildorch.run_id": printable(report.run_id),
        "buildorch.project": printable(report.project),
        "buildorch.exit_code": report.exit_code,
    }
    span = _begun(tracer, f"buildorch {report.project}", done.began_at, parent, told)
    for built in done.services:
        _service(tracer, report, built, done.began_at, span)
    _ended(span, done.began_at + done.duration_s, "" if report.ok else f"exit code {report.exit_code}")


def _service(tracer: Any, report: Report, built: Built, began_at: float, run: Any) -> None:  # noqa: ANN401
    record = report.services[built.name]
    told = {
        "buildorch.service": printable(built.name),
        "buildorch.status": record.status,
        "buildorch.reason": printable(record.reason),
        "buildorch.attempts": record.attempts,
        "buildorch.steps.total": record.steps.total,
        "buildorch.steps.cached": record.steps.cached,
        "buildorch.critical": built.critical,
        "container.image.name": printable(record.reference),
    }
    if record.digest:
        told["oci.manifest.digest"] = record.digest
    span = _begun(tracer, built.name, began_at + built.begin_s, _inside(run), told)
    for step in built.steps:
        about = {"buildorch.step.kind": step.kind, "buildorch.critical": step.critical}
        inner = _begun(tracer, step.name, began_at + step.begin_s, _inside(span), about)
        _ended(inner, began_at + step.end_s, "failed" if step.kind == "failed" else "")
    _ended(span, began_at + built.end_s, record.error.message if record.error else "")


def _begun(tracer: Any, name: str, at: float, context: Any, attributes: dict[str, Any]) -> Any:  # noqa: ANN401
    return tracer.start_span(printable(name), context=context, start_time=_ns(at), attributes=attributes)


def _ended(span: Any, at: float, error: str) -> None:  # noqa: ANN401
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    if error:
        span.set_status(Status(StatusCode.ERROR, printable(error)))
    span.end(end_time=_ns(at))


def _inside(span: Any) -> Any:  # noqa: ANN401
    from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

    return set_span_in_context(span)


def _ns(at: float) -> int:
    return round(at * 1e6) * 1000
