"""Calls that are under way while Redis or the database is away: their process goes on to look after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import RedisError
from tests.fixtures.agents import Carpool
from tests.fixtures.calls import Calling, calling, pooled

from carpool import Producer
from carpool_worker.claude.token_bucket import TokenBucket
from carpool_worker.pipeline.submission import fallback
from carpool_worker.pipeline.submission.fallback import Callers
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.requests import call_claims

__all__ = ["calling"]

LEASES = "SELECT lease_until FROM real_time_calls WHERE state = 'calling'"


@dataclass
class OneToken(TokenBucket):
    """A bucket with one token, after which Redis is away."""

    seen: list[list[tuple[int, ...]]]
    leases: Callable[[], list[tuple[int, ...]]]
    left: list[int] = field(default_factory=lambda: [1])

    def take(self, wanted: int) -> tuple[int, float]:
        if self.left:
            return self.left.pop(), 0.0
        self.seen.append(self.leases())
        raise RedisAway("Connection refused")


@pytest.fixture
def leases(unhurried: Carpool, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[int, ...]]]:
    monkeypatch.setattr(fallback, "RENEWAL", 0.1)
    monkeypatch.setattr(fallback, "LOOK_SECONDS", 0.1)
    return lambda: unhurried.rows(LEASES)


def test_calls_under_way_keep_their_lease_while_redis_is_away(
    unhurried: Carpool,
    calling: Calling,
    producer: Producer,
    simulator: RemoteSimulator,
    leases: Callable[[], list[tuple[int, ...]]],
) -> None:
    # Given two requests to be called, and an API that takes its time
    calling.take_out(*pooled(unhurried, producer, "First", "Second"))
    simulator.arm(Fault(operation="messages", kind="stalled", seconds=1.5))
    seen: list[list[tuple[int, ...]]] = []
    callers = Callers(lambda _: calling.messages, lambda _: OneToken(seen, leases, left))
    left = [1]
    # When Redis goes away while the first is under way
    with pytest.raises(RedisError):
        fallback.call_due(unhurried.engine, callers, calling.policy, unhurried.announce, seconds=20.0)
    # Then its caller went on to show that it is alive, and its answer counts; the second one waits
    during = [rows[0] for rows in seen if rows]
    assert len(set(during)) > 2
    assert sorted(calling.states()) == [("answered",), ("available",)]


def test_calls_under_way_are_waited_for_while_the_database_claims_none(
    unhurried: Carpool,
    calling: Calling,
    producer: Producer,
    simulator: RemoteSimulator,
    leases: Callable[[], list[tuple[int, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given
    calling.take_out(*pooled(unhurried, producer, "First"))
    simulator.arm(Fault(operation="messages", kind="stalled", seconds=1.0))
    due, looks = call_claims.due, []

    def due_at_first(*arguments: object) -> object:
        looks.append(1)
        if len(looks) in (2, 3):
            raise sa.exc.OperationalError("SELECT", {}, Exception("gone away"))
        return due(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(call_claims, "due", due_at_first)
    # When, Then
    assert calling.call() == 1
    assert len(looks) > 3
    assert calling.states() == [("answered",)]
