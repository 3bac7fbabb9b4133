"""Carpool pools single Claude requests into Message Batches, at half the price. Services import this package.

    producer = Producer()
    request_id = producer.enqueue({"model": …, "max_tokens": …, "messages": […]}, callback=Webhook("https://…"))
    result = producer.wait(request_id)

`carpool.webhooks` verifies the webhooks that a service receives. In its tests, `carpool.testing.InMemoryProducer` takes
the producer's place; `ProducerLike` is the type of either.

`carpool.Anthropic` and `carpool.AsyncAnthropic` are Anthropic's own clients, with every call through Carpool's gateway.
They are loaded when they are first used, and need the extra `carpool[anthropic]`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from carpool.aio import AsyncProducer
from carpool.answers import AnswerError
from carpool.callbacks import Callback, Task, Webhook
from carpool.client import Producer
from carpool.enqueue_options import EnqueueOptions, Request
from carpool.exceptions import (
    CarpoolError,
    IdempotencyConflict,
    InvalidAnswer,
    InvalidRequest,
    InvalidSetting,
    InvalidSignature,
    NotDurable,
    QueueFull,
    RedisUnavailable,
    RequestForgotten,
    RequestUnknown,
    SourceFailed,
    WaitTimeout,
)
from carpool.misplaced import UnknownParam
from carpool.protocols import AsyncProducerLike, ProducerLike
from carpool.request_ids import RequestIds, request_id_of
from carpool.results import AnswerPruned, RequestFailed, Result

__version__ = "0.1.0"

__all__ = [
    "AnswerError",
    "AnswerPruned",
    "AsyncProducer",
    "AsyncProducerLike",
    "Callback",
    "CarpoolError",
    "EnqueueOptions",
    "IdempotencyConflict",
    "InvalidAnswer",
    "InvalidRequest",
    "InvalidSetting",
    "InvalidSignature",
    "NotDurable",
    "Producer",
    "ProducerLike",
    "QueueFull",
    "RedisUnavailable",
    "Request",
    "RequestFailed",
    "RequestForgotten",
    "RequestIds",
    "RequestUnknown",
    "Result",
    "SourceFailed",
    "Task",
    "UnknownParam",
    "WaitTimeout",
    "Webhook",
    "request_id_of",
]

if TYPE_CHECKING:
    from carpool.sdk_clients import Anthropic as Anthropic
    from carpool.sdk_clients import AsyncAnthropic as AsyncAnthropic
else:  # type checkers would take a __getattr__ as leave for every name

    def __getattr__(name: str) -> Any:
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module("carpool.sdk_clients"), name)
        except ModuleNotFoundError as error:
            needs = f"carpool.{name} needs Anthropic's SDK: pip install 'carpool[anthropic]'"
            raise ImportError(needs, name="anthropic") from error

    def __dir__() -> list[str]:
        return sorted({*globals(), *_ON_DEMAND})


_ON_DEMAND = frozenset({"Anthropic", "AsyncAnthropic"})
"""What needs the SDK. It is not in `__all__`, so that `from carpool import *` does not."""
