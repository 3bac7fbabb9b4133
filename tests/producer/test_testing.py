"""The in-memory producer, as a service's own test uses it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from carpool import (
    AsyncProducer,
    AsyncProducerLike,
    CarpoolError,
    EnqueueOptions,
    InvalidRequest,
    InvalidSignature,
    Producer,
    ProducerLike,
    Request,
    RequestFailed,
    RequestUnknown,
    Task,
    WaitTimeout,
    webhooks,
)
from carpool.testing import AsyncInMemoryProducer, InMemoryProducer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_what_was_enqueued_is_recorded_after_the_same_checks(params: dict[str, Any]) -> None:
    with InMemoryProducer(client="tests") as producer:
        request_id = producer.enqueue(params, callback=Task("a.b"), metadata={"a": 1}, betas=["x"])
        with pytest.raises(InvalidRequest, match="request 1: model"):
            producer.enqueue_many([params, {}])
        first, second = producer.enqueued
    assert (first.id, first.params, first.callback) == (request_id, params, Task("a.b"))
    assert (first.metadata, first.headers, second.metadata) == ({"a": 1}, {"anthropic-beta": "x"}, None)


def test_priority_and_max_wait_are_recorded_as_they_were_given(params: dict[str, Any]) -> None:
    producer = InMemoryProducer()
    producer.enqueue_many([Request(params, max_wait=1.5), params], priority=-7)

    assert [(one.priority, one.max_wait) for one in producer.enqueued] == [(-7, 1.5), (-7, None)]


def test_the_test_says_the_answers(params: dict[str, Any]) -> None:
    # Given
    producer = InMemoryProducer()
    good, bad = producer.enqueue_many([Request(params, metadata="first"), params])
    with pytest.raises(WaitTimeout):
        producer.wait(good)
    # When
    producer.answer(good, "Positive.", cost="0.5")
    producer.fail(bad, "invalid_request_error", "no")
    # Then
    assert (producer.wait(good).text, producer.wait(good).metadata) == ("Positive.", "first")
    assert [result.outcome for result in producer.as_completed([bad, good])] == ["errored", "succeeded"]
    with pytest.raises(RequestFailed, match="invalid_request_error: no"):
        producer.wait(bad).raise_for_error()
    with pytest.raises(CarpoolError, match="has ended already"):
        producer.answer(good, "Negative.")


def test_a_wait_for_what_was_not_enqueued_is_an_error_as_with_the_worker() -> None:
    with pytest.raises(RequestUnknown, match="client billing has enqueued no request"):
        InMemoryProducer(client="billing").wait("0" * 32)


def test_what_a_test_gets_wrong_is_said(params: dict[str, Any]) -> None:
    producer = InMemoryProducer(client="billing")
    request_id = producer.enqueue(params)

    for call in (producer.answer, producer.fail, producer.webhook):
        with pytest.raises(RequestUnknown, match="client billing has enqueued no request"):
            call("0" * 32, SECRET)
        with pytest.raises(InvalidRequest, match="32 hexadecimal digits"):
            call("42", SECRET)
    with pytest.raises(CarpoolError, match=f"request {request_id} has no answer yet"):
        producer.webhook(request_id, SECRET)


def test_a_secret_may_be_unpadded(params: dict[str, Any]) -> None:
    producer = InMemoryProducer(reply=lambda _: "yes")
    for secret in ("whsec_Zm91cg", "whsec_Zm91cg==", "whsec_Zml2ZTU="):
        body, headers = producer.webhook(producer.enqueue(params), secret)
        assert webhooks.verify(body, headers, secret).text == "yes"


def test_a_function_can_answer(params: dict[str, Any]) -> None:
    producer = InMemoryProducer(reply=lambda asked: asked["model"].upper())
    assert producer.wait(producer.enqueue(params)).text == "CLAUDE-HAIKU-4-5"


def test_an_idempotency_key_is_one_request(params: dict[str, Any]) -> None:
    producer = InMemoryProducer(reply=lambda asked: "once")
    ids = {producer.enqueue(params, idempotency_key="a") for _ in range(3)}
    assert len(ids) == len(producer.enqueued) == 1


def test_the_webhook_of_an_answer_verifies(params: dict[str, Any]) -> None:
    producer = InMemoryProducer(reply=lambda asked: "Hello")
    body, headers = producer.webhook(producer.enqueue(params), SECRET)
    assert webhooks.verify(body, headers, SECRET).text == "Hello"


@pytest.mark.parametrize("double", [InMemoryProducer, AsyncProducer, AsyncInMemoryProducer])
def test_every_producer_has_the_same_interface(double: type) -> None:
    for name in ("enqueue", "enqueue_many", "wait", "as_completed", "cancel", "cancel_all", "close"):
        real, other = (inspect.signature(getattr(one, name)) for one in (Producer, double))
        assert list(real.parameters) == list(other.parameters)


def test_a_service_can_take_either_by_its_type(params: dict[str, Any]) -> None:
    def serve(producer: ProducerLike) -> str:
        return producer.enqueue(params)

    async def serve_async(producer: AsyncProducerLike) -> str:
        return await producer.enqueue(params)

    real: list[ProducerLike] = [Producer("redis://127.0.0.1:1/0"), InMemoryProducer()]
    real_async: list[AsyncProducerLike] = [AsyncProducer("redis://127.0.0.1:1/0"), AsyncInMemoryProducer()]
    assert all(isinstance(one, ProducerLike) for one in real)
    assert all(isinstance(one, AsyncProducerLike) for one in real_async)
    assert len(serve(InMemoryProducer())) == len(asyncio.run(serve_async(AsyncInMemoryProducer()))) == 32


def test_the_async_double_awaits_what_the_service_calls(params: dict[str, Any]) -> None:
    async def source() -> AsyncIterator[dict[str, Any]]:
        yield params
        yield params

    async def service() -> None:
        async with AsyncInMemoryProducer(client="tests") as producer:
            first = await producer.enqueue(params, metadata={"a": 1}, idempotency_key="a")
            ids = await producer.enqueue_many(source())
            producer.answer(first, "Hello", cost="0.01")
            producer.fail(ids[0], "overloaded_error")
            await producer.cancel(ids[1])
            await producer.cancel_all()

            assert (await producer.wait(first)).text == "Hello"
            assert [one.outcome async for one in producer.as_completed(ids)] == ["errored", "canceled"]
            assert webhooks.verify(*producer.webhook(first, SECRET), SECRET).metadata == {"a": 1}
            assert len(producer.enqueued) == 3
            waiting = await producer.enqueue(params)
            with pytest.raises(WaitTimeout):
                await producer.wait(waiting)
            with pytest.raises(InvalidRequest, match="request 1: model"):
                await producer.enqueue_many([params, {}])

    asyncio.run(service())


def test_what_a_service_catches_is_where_it_imports_from() -> None:
    assert webhooks.InvalidSignature is InvalidSignature
    assert EnqueueOptions.__optional_keys__ >= {"callback", "metadata"}
