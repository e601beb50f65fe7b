"""A run's spans, at a real OTLP receiver."""

from __future__ import annotations

import gzip
import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from logging.handlers import BufferingHandler
from typing import Any

import hostile
import pytest
import recorded
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from buildorch import telemetry
from buildorch.report.timing import timing

RUN = recorded.report()
PARENT = {"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP, and answers as it is told."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.asked: list[str] = []
        self.taken: list[ExportTraceServiceRequest] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.taken
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.asked.append(f"{self.path} {self.headers['Content-Type']}")
        self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    with Collector(status) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    """What a collector got of the recorded run, with a parent."""
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        assert telemetry.export(RUN, PARENT, timeout_s=20) == ""
        yield collector


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_the_spans_come_as_otlp_over_http_in_one_request(collected: Collector):
    assert collected.asked == ["/v1/traces application/x-protobuf"]
    [resource] = collected.taken[0].resource_spans
    assert attributes(resource.resource)["service.name"] == "buildorch"


def test_the_run_its_services_and_their_steps_are_spans_in_each_other(collected: Collector):
    spans = {span.span_id: span for span in collected.spans()}
    inside: dict[str, int] = {}
    for span in spans.values():
        parent = spans.get(span.parent_span_id)
        grand = spans.get(parent.parent_span_id) if parent else None
        if grand:
            inside[parent.name] = inside.get(parent.name, 0) + 1

    assert inside == {name: len(one.timeline) for name, one in RUN.services.items() if one.timeline}
    [run] = [span for span in spans.values() if span.parent_span_id not in spans]
    assert run.name == f"buildorch {RUN.project}"
    assert attributes(run)["buildorch.run_id"] == RUN.run_id


def test_the_runs_parent_is_the_one_that_traceparent_names(collected: Collector):
    [run] = [span for span in collected.spans() if span.name == f"buildorch {RUN.project}"]

    assert run.parent_span_id.hex() == "b7ad6b7169203331"
    assert {span.trace_id.hex() for span in collected.spans()} == {"0af7651916cd43dd8448eb211c80319c"}


def test_spans_have_the_records_own_times(collected: Collector):
    done = timing(RUN)
    for built in done.services:
        [span] = [one for one in collected.spans() if one.name == built.name]
        assert span.start_time_unix_nano / 1e9 == pytest.approx(done.began_at + built.begin_s, abs=1e-4)
        assert (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 == pytest.approx(built.duration_s, abs=1e-4)


def test_what_failed_is_an_error_with_its_words(collected: Collector):
    failed = {span.name: span.status.message for span in collected.spans() if span.status.code == 2}

    assert failed == {
        "[2/3] RUN sleep 1; sh /task.sh": "failed",
        "worker": "the step exited with 7",
        f"buildorch {RUN.project}": "exit code 1",
    }


@pytest.mark.parametrize("given", [{}, {"TRACEPARENT": "nonsense"}, {"TRACEPARENT": "00-0-0-00"}])
def test_without_a_parent_that_can_be_understood_the_run_is_a_trace_of_its_own(given: dict[str, str]):
    *_, run = telemetry.spans(RUN, given)

    assert run.parent is None


def test_a_program_that_seeds_its_random_numbers_keeps_them_and_no_two_runs_have_an_id_in_common():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    first = telemetry.spans(RUN, {})
    assert random.random() == expected
    random.seed(1)
    second = telemetry.spans(RUN, {})

    assert {span.context.span_id for span in first}.isdisjoint(span.context.span_id for span in second)
    assert {span.context.trace_id for span in first}.isdisjoint(span.context.trace_id for span in second)


def test_hostile_words_are_data_in_spans():
    told = [span.name for span in telemetry.spans(hostile.report(), {})]

    assert [char for name in told for char in name if not (char.isprintable() or char == "\t")] == []


@pytest.mark.parametrize(("status", "said"), [(400, "not taken by the collector"), (503, "not sent within|not taken")])
def test_a_collector_that_refuses_is_told_once(status: int, said: str, monkeypatch: pytest.MonkeyPatch):
    everything = BufferingHandler(1000)
    monkeypatch.setattr(logging.getLogger(), "handlers", [everything])
    with collecting(status) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        told = telemetry.export(RUN, {}, timeout_s=0.5)

    assert any(part in told for part in said.split("|"))
    assert [record.getMessage() for record in everything.buffer] == []


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_EXPORTER_OTLP_ENDPOINT", "no-scheme"), ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")]
)
def test_variables_that_cannot_be_followed_are_told_without_their_values(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)

    told = telemetry.export(RUN, {}, timeout_s=0.5)

    assert told.startswith("the run's spans ")
    assert value not in told
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off")])
def test_what_is_switched_off_is_not_sent(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv(name, value)
        told = telemetry.export(RUN, {}, timeout_s=5)

    assert (told, collector.taken) == ("", [])


@pytest.mark.proof
def test_a_collector_that_never_answers_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()

        told = telemetry.export(RUN, {}, timeout_s=0.3)

    assert told == "the run's spans were not sent within 0.3 s: the collector does not answer"
    assert time.monotonic() - began < 2
    assert telemetry.TIMEOUT_S == 2
