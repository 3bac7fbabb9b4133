"""Whatever happens to its requests, in whatever order: a client's batch counts them as their rows say."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.fixtures.agents import IN_AN_HOUR, Carpool, request
from tests.fixtures.client_batches import CLIENT, assert_counts_are_those_of_the_rows, make

from carpool_worker.exceptions import BatchEnded, NoClientBatch
from carpool_worker.models.tables import client_batches as table
from carpool_worker.operations import cancel as by_operator
from carpool_worker.operations import client_batches, retry
from carpool_worker.pipeline.batching import canceler
from carpool_worker.policies.client_batches import shown_id
from carpool_worker.policies.limits import Limits
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.store.requests.discarded import Chance, DiscardedFilter

ACTIONS = 60

SCRIPTS = (
    Script(contains="fails", outcome="errored", error_type="invalid_request_error"),
    Script(contains="wobbles", outcome="errored", error_type="api_error", times=1),
    Script(contains="expires", outcome="expired", times=1),
    Script(contains="never", outcome="expired"),
)
KINDS = ("works", "fails", "wobbles", "expires", "never", "broken")


class _Life:
    """Everything that may happen, one thing after the other, as a seed decides."""

    def __init__(self, carpool: Carpool, seed: int) -> None:
        self._carpool = carpool
        self._random = random.Random(seed)
        self._names = 0

    def step(self) -> str:
        actions: list[Callable[[], object]] = [
            self.make,
            self.make,
            self.cancel,
            self.cancel_one,
            self.expire_one,
            self.retry,
            self._carpool.aggregate,
            self._carpool.submit,
            self._carpool.poll,
            self._carpool.collect,
            self.stage,
            self._carpool.go_round,
        ]
        action = self._random.choice(actions)
        action()
        return action.__name__

    def make(self) -> None:
        self._carpool.limits = self._random.choice([IN_AN_HOUR, Limits(3, 250_000_000, 0.0)])
        given = {}
        for _ in range(self._random.randint(1, 5)):
            self._names += 1
            kind = self._random.choice(KINDS)
            params = request(f"{kind} {self._names}") | ({"max_tokens": 0} if kind == "broken" else {})
            given[f"request-{self._names}"] = params
        make(self._carpool, given)

    def cancel(self) -> None:
        if found := self._carpool.rows("SELECT id FROM client_batches ORDER BY id"):
            shown = shown_id(self._random.choice(found).id)
            try:
                client_batches.cancel(self._carpool.engine, CLIENT, shown)
            except (BatchEnded, NoClientBatch):
                return
            if self._random.random() < 0.5:
                canceler.sweep(self._carpool.engine)

    def cancel_one(self) -> None:
        if found := self._carpool.rows("SELECT id FROM requests ORDER BY id"):
            by_operator.cancel(self._carpool.engine, [self._random.choice(found).id], actor="ada")

    def expire_one(self) -> None:
        if found := self._carpool.rows("SELECT id FROM client_batches WHERE ended_at IS NULL ORDER BY id"):
            id_ = self._random.choice(found).id
            self._carpool.change(f"UPDATE client_batches SET expires_at = 1 WHERE id = id_of('{id_}')")
            self._carpool.change(f"UPDATE requests SET deadline = 1 WHERE client_batch = '{shown_id(id_)}'")

    def retry(self) -> None:
        wanted = DiscardedFilter(kept_since=0, client=CLIENT)
        retry.retry(self._carpool.engine, wanted, [Chance.FREE], actor="ada")

    def stage(self) -> None:
        self._carpool.forget_waiting()
        self._carpool.stage()


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_always_those_of_the_rows(carpool: Carpool, simulator: RemoteSimulator, seed: int) -> None:
    simulator.script(*SCRIPTS)
    life = _Life(carpool, seed)
    done = []
    for _ in range(ACTIONS):
        done.append(life.step())
        assert_counts_are_those_of_the_rows(carpool.engine)

    # And in the end each has ended
    carpool.limits = Limits(100, 250_000_000, 0.0)
    running = f"SELECT id FROM {table.name} WHERE ended_at IS NULL"
    carpool.until(lambda: not carpool.rows(running))
    assert_counts_are_those_of_the_rows(carpool.engine)
    assert set(done) > {"make", "cancel", "retry"}
