"""The way of a request takes no lock that all processes share, unless a budget asks for it (PostgreSQL).

But for one: before a batch is posted, the requests at Anthropic are counted under a lock, as their limit is shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.deliveries import deliver
from tests.fixtures.receiver import Receiver

from carpool import Producer, Webhook
from carpool_worker.policies.budgets import Budget
from carpool_worker.store.batches.queue import QUEUE_LOCK
from carpool_worker.store.requests.reservations import BUDGET_LOCK

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

MODELS = ("claude-haiku-4-5", "claude-sonnet-4-5")
BATCHES = len(MODELS)


@contextmanager
def locks(engine: sa.Engine) -> Iterator[Counter[int]]:
    """Count which advisory locks are taken meanwhile, by their keys."""
    found: Counter[int] = Counter()

    def keep(_: object, __: object, statement: str, parameters: Any, *___: Any) -> None:
        if "advisory" in statement:
            found.update(parameters.values())

    sa.event.listen(engine, "before_cursor_execute", keep)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", keep)


def go_all_the_way(carpool: Carpool, producer: Producer, receiver: Receiver, text: str) -> None:
    callback = Webhook(receiver.url("/takes"))
    for model in MODELS:
        producer.enqueue_many([request(f"{text} {n}", model) for n in range(3)], callback=callback)
    before = len(carpool.rows("SELECT 1 FROM requests"))
    carpool.until(lambda: carpool.ended(before + 6))
    assert deliver(carpool.engine) == 6


def test_it_takes_none_where_no_budget_asks(carpool: Carpool, producer: Producer, receiver: Receiver) -> None:
    # Given that the API key is known, as after the first batch
    go_all_the_way(carpool, producer, receiver, "first")

    # When others go all the way, while somebody else has a budget
    carpool.budgets = {"somebody else": Budget(day=Decimal(1))}
    with locks(carpool.engine) as taken:
        go_all_the_way(carpool, producer, receiver, "then")
    assert taken == {QUEUE_LOCK: BATCHES}

    # Then it is a budget of their own that takes one
    carpool.budgets = {"tests": Budget(day=Decimal(1))}
    with locks(carpool.engine) as taken:
        go_all_the_way(carpool, producer, receiver, "at last")
    assert taken.keys() == {QUEUE_LOCK, BUDGET_LOCK}
