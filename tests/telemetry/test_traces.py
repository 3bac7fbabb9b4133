"""The producer's trace, by the real OpenTelemetry, is carried to its callback, whether the worker is traced or not."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.fixtures.agents import Carpool, request
from tests.fixtures.deliveries import WEBHOOK_SECRET
from tests.fixtures.inbox import waiting_in
from tests.fixtures.receiver import Receiver

from carpool import AsyncProducer, Producer, Webhook, tracing
from carpool.exceptions import InvalidRequest
from carpool.webhooks import verify
from carpool_worker.app import app
from carpool_worker.pipeline.delivery import courier
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.pipeline.delivery.channels.celery_task import TaskChannel
from carpool_worker.policies.deliveries import Event
from carpool_worker.settings import Settings, read_settings
from carpool_worker.tasks import enqueue
from carpool_worker.telemetry import traces as telemetry

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The example of W3C Trace Context, section 3.2."""

service = TracerProvider(shutdown_on_exit=False).get_tracer("a service")


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """A worker that is traced: its spans."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    telemetry.trace_with(provider)
    yield kept
    telemetry.end()


def deliver(carpool: Carpool) -> None:
    near: Any = {"webhook_secret": [WEBHOOK_SECRET], "webhook_allowed_networks": ["127.0.0.0/8"]}
    carpool.until(lambda: carpool.ended(1))
    assert courier.deliver(carpool.engine, app, Settings(**near)) == 1


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    [span] = [span for span in spans.get_finished_spans() if span.name == name]
    return span


def test_a_webhooks_traceparent_is_the_producers(
    carpool: Carpool, producer: Producer, receiver: Receiver
) -> None:
    # Given a request that a service enqueued within a span
    with service.start_as_current_span("checkout") as span:
        producer.enqueue(request(), callback=Webhook(receiver.url("/hook")))

    # When its answer is delivered
    deliver(carpool)

    # Then the receiver can continue that span's trace, and the signature is unharmed
    [(headers, body)] = receiver.posts["/hook"]
    own = span.get_span_context()
    assert headers["traceparent"].startswith(f"00-{own.trace_id:032x}-{own.span_id:016x}-")
    assert verify(body, headers, WEBHOOK_SECRET).outcome == "succeeded"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_traced_worker_adds_the_delivery_to_the_producers_trace(
    carpool: Carpool, producer: Producer, receiver: Receiver, spans: InMemorySpanExporter
) -> None:
    with service.start_as_current_span("checkout") as span:
        producer.enqueue(request(), callback=Webhook(receiver.url("/hook")))

    deliver(carpool)

    # Then the receiver's parent is the delivery, whose parent is the producer's span
    delivery = named(spans, "deliver webhook")
    own = span.get_span_context()
    assert delivery.context
    assert delivery.parent
    assert (delivery.context.trace_id, delivery.parent.span_id) == (own.trace_id, own.span_id)
    [(headers, _)] = receiver.posts["/hook"]
    assert headers["traceparent"].startswith(f"00-{own.trace_id:032x}-{delivery.context.span_id:016x}-")


@pytest.mark.parametrize("traced", [False, True])
def test_a_tasks_message_carries_the_trace_too(
    redis_url: str, traced: bool, request: pytest.FixtureRequest
) -> None:
    # Given
    if traced:
        request.getfixturevalue("spans")
    services = celery.Celery(broker=redis_url)
    callback = json.dumps({"kind": "task", "name": "billing.on_answer", "queue": "billing"})
    outgoing = Outgoing("a" * 32, "completed", "billing.on_answer", callback, "", b"{}", TRACE)

    # When
    with TaskChannel(services, read_settings()) as channel:
        assert asyncio.run(channel.send(outgoing)).event is Event.ACCEPTED

    # Then
    with services.connection_for_read() as connection, connection.SimpleQueue("billing") as queue:
        message = queue.get(timeout=10)
        message.ack()
    assert message.headers["traceparent"].split("-")[1] == TRACE.split("-")[1]
    assert (message.headers["traceparent"] == TRACE) is not traced
    services.close()


def test_every_door_takes_the_trace(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def enqueue_many() -> None:
        async with AsyncProducer(redis_url) as producer:
            await producer.enqueue_many([request(), request()])

    # Given a Celery message that its service's instrumentation marked, and two that nobody or somebody else did
    monkeypatch.setattr(enqueue, "settings", lambda: read_settings(redis_url=redis_url))
    for mark in ({"traceparent": TRACE}, {}, {"traceparent": "nonsense"}):
        enqueue.enqueue.push_request(id=f"message {mark}", **mark)
        enqueue.enqueue.run(request())
        enqueue.enqueue.pop_request()

    # When others enqueue within a span, or say which trace they mean
    with service.start_as_current_span("checkout"), Producer(redis_url) as producer:
        own = tracing.current()
        producer.enqueue_many([request()])
        asyncio.run(enqueue_many())
        producer.enqueue(request(), trace=TRACE)

    # Then the inbox has it
    with redis.Redis.from_url(redis_url) as server:
        traces = [envelope.trace for envelope in waiting_in(server)]
    assert own
    assert traces == [TRACE, None, None, own, own, own, TRACE]


def test_a_trace_that_is_none_is_refused(redis_url: str) -> None:
    with Producer(redis_url) as producer, pytest.raises(InvalidRequest, match="traceparent"):
        producer.enqueue(request(), trace="4bf92f35")


def test_without_a_span_or_without_opentelemetry_there_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing.current() is None

    with trace.use_span(service.start_span("checkout"), end_on_exit=True):
        assert tracing.current()
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")
        assert tracing.current() is None


@pytest.mark.parametrize("asking", [{}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_a_worker_is_not_traced_unless_it_is_asked_to_be(
    monkeypatch: pytest.MonkeyPatch, asking: dict[str, str]
) -> None:
    for name, value in asking.items():
        monkeypatch.setenv(name, value)
    telemetry.begin()
    with telemetry.delivering("webhook", "a" * 32, TRACE) as headers:
        assert headers == {"traceparent": TRACE}


def test_a_worker_that_is_asked_to_sends_its_spans_there(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given OpenTelemetry's own setting, and a collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url(""))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pool")

    # When a worker's process delivers, and ends
    telemetry.begin()
    with telemetry.delivering("webhook", "a" * 32, TRACE):
        pass
    telemetry.end()

    # Then the collector has the span
    [(_, sent)] = receiver.posts["/v1/traces"]
    assert b"deliver webhook" in sent
    assert b"pool" in sent
    assert bytes.fromhex(TRACE.split("-")[1]) in sent
