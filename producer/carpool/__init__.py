"""Carpool pools single Claude requests into Message Batches, at half the price. Services import this package.

    producer = Producer()
    request_id = producer.enqueue({"model": …, "max_tokens": …, "messages": […]}, callback=Webhook("https://…"))
    result = producer.wait(request_id)

`carpool.webhooks` verifies the webhooks that a service receives. In its tests, `carpool.testing.InMemoryProducer` takes
the producer's place.
"""

from carpool.aio import AsyncProducer
from carpool.answers import AnswerError
from carpool.callbacks import Callback, Task, Webhook
from carpool.client import Producer
from carpool.envelopes import Request
from carpool.exceptions import (
    CarpoolError,
    InvalidAnswer,
    InvalidRequest,
    InvalidSetting,
    InvalidSignature,
    NotDurable,
    QueueFull,
    RedisUnavailable,
    SourceFailed,
    WaitTimeout,
)
from carpool.request_ids import RequestIds
from carpool.results import RequestFailed, Result

__all__ = [
    "AnswerError",
    "AsyncProducer",
    "Callback",
    "CarpoolError",
    "InvalidAnswer",
    "InvalidRequest",
    "InvalidSetting",
    "InvalidSignature",
    "NotDurable",
    "Producer",
    "QueueFull",
    "RedisUnavailable",
    "Request",
    "RequestFailed",
    "RequestIds",
    "Result",
    "SourceFailed",
    "Task",
    "WaitTimeout",
    "Webhook",
]
