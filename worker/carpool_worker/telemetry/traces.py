"""OpenTelemetry, if OTEL_* asks for it: spans of Celery's tasks, and a request's own trace carried on to its callback.

Otherwise nothing of it is imported, and the trace that came with a request is passed on unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

ASKING = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
"""OpenTelemetry's own variables that ask for traces (its specification, SDK environment variables)."""

_provider: TracerProvider | None = None


def is_asked_for(environment: Mapping[str, str]) -> bool:
    """Return whether the environment asks for traces."""
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not off and environment.get("OTEL_TRACES_EXPORTER") != "none" and any(map(environment.get, ASKING))


def begin(**_: Any) -> None:
    """Trace this process if the environment asks for it; called in each child, as threads survive no fork."""
    if not is_asked_for(os.environ):
        return
    os.environ.setdefault("OTEL_SERVICE_NAME", "carpool")
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(_exporter()))
        trace_with(provider)
    except ImportError as error:
        log.warning("traces need `pip install 'carpool[otel]'`", error=str(error))


def trace_with(provider: TracerProvider) -> None:
    """Trace tasks and deliveries with this provider.

    It does not become the global one: the spans of other libraries, the API's SDK above all, could contain a prompt.
    """
    from opentelemetry.instrumentation.celery import CeleryInstrumentor

    global _provider
    CeleryInstrumentor().instrument(tracer_provider=provider)
    _provider = provider


def end(**_: Any) -> None:
    """Send the spans that are left, and stop tracing."""
    global _provider
    if _provider:
        from opentelemetry.instrumentation.celery import CeleryInstrumentor

        CeleryInstrumentor().uninstrument()
        _provider.shutdown()
        _provider = None


@contextmanager
def delivering(channel: str, request_id: str, trace: str | None) -> Iterator[dict[str, str]]:
    """Yield the headers that carry a request's trace (its traceparent) on; a traced worker adds a span to it."""
    if _provider is None:
        yield {"traceparent": trace} if trace else {}
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Errors are not recorded: they may quote what a receiver answered, which could quote Claude's answer.
    propagator, headers = TraceContextTextMapPropagator(), dict[str, str]()
    with _provider.get_tracer("carpool").start_as_current_span(
        f"deliver {channel}",
        propagator.extract({"traceparent": trace} if trace else {}, Context()),
        SpanKind.PRODUCER,
        {"carpool.request": request_id},
        record_exception=False,
        set_status_on_exception=False,
    ):
        propagator.inject(headers)
        yield headers


def _exporter() -> SpanExporter:
    if os.environ.get("OTEL_TRACES_EXPORTER") == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
