"""Producers for services' own tests: the same checks and answers, without Redis, worker or Claude."""

from carpool.testing_async import AsyncInMemoryProducer
from carpool.testing_producer import Enqueued, InMemoryProducer

__all__ = ["AsyncInMemoryProducer", "Enqueued", "InMemoryProducer"]
