"""When the aggregator seals: on time while requests keep coming, and early while many more wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.agents import AT_ONCE, IN_AN_HOUR, MODEL
from tests.fixtures.inbox import append, envelope
from tests.fixtures.queries import rows

from carpool.contract import QUEUED
from carpool_worker.database import now
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.inbox.chunks import Chunk
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies import limits
from carpool_worker.policies.limits import MOST_OVERLAPPING, OVERLAP_COUNT, Limits
from carpool_worker.policies.windows import LEAD, parse_all
from carpool_worker.units import SECOND

FEW = 3
"""What counts as many in these tests."""

CLOSED = parse_all(["Mon 00:00-00:01", "Tue 00:00-00:01"])
"""Windows of which none is open now, but for two minutes a week."""


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OVERLAP_COUNT", FEW)


def sizes(engine: sa.Engine, state: str) -> list[int]:
    found = rows(engine, f"SELECT request_count FROM batches WHERE state = '{state}' ORDER BY id")
    return [row.request_count for row in found]


def pool(engine: sa.Engine, server: redis.Redis, numbers: range, behind: int, limits: Limits) -> None:
    """Pool requests while so many more wait in the inbox."""
    append(server, *map(envelope, numbers))
    inbox = Inbox(server, 30)
    for chunk in inbox.chunks():
        aggregator.pool(engine, chunk.packs, replace(limits, behind=behind))
        inbox.acknowledge(chunk)


@pytest.mark.usefixtures("few_are_many")
def test_while_many_more_wait_batches_are_full_sooner_until_enough_are_under_way(
    engine: sa.Engine, server: redis.Redis
) -> None:
    # When requests come with many more behind them, Then batches of that size are sealed, and no smaller one
    pool(engine, server, range(FEW * 2 + 1), FEW, IN_AN_HOUR)
    assert (sizes(engine, "sealed"), sizes(engine, "open")) == ([FEW, FEW], [1])

    # When few are behind, Then the open one fills
    pool(engine, server, range(100, 100 + FEW * 2), FEW - 1, IN_AN_HOUR)
    assert (sizes(engine, "sealed"), sizes(engine, "open")) == ([FEW, FEW], [1 + FEW * 2])

    # When many are again, Then it is sealed as it is, and the next one is full early
    pool(engine, server, range(200, 200 + FEW), FEW, IN_AN_HOUR)
    assert sizes(engine, "sealed") == [FEW, FEW, 1 + FEW * 2, FEW]

    # When as many are under way as overlap, Then none is sealed early any longer
    assert len(sizes(engine, "sealed")) == MOST_OVERLAPPING
    pool(engine, server, range(300, 300 + FEW * 2), 1_000_000, IN_AN_HOUR)
    assert sizes(engine, "open") == [FEW * 2]


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("reason", [{"windows": CLOSED}, {"may_overlap": False}])
def test_where_it_gains_nothing_no_batch_is_sealed_early(
    engine: sa.Engine, server: redis.Redis, reason: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "is_open", lambda windows, at: not windows)

    pool(engine, server, range(FEW * 2), FEW, replace(IN_AN_HOUR, **reason))  # type: ignore[arg-type]

    assert (sizes(engine, "sealed"), sizes(engine, "open")) == ([], [FEW * 2])


def test_the_inbox_says_how_many_are_behind_a_chunk(
    engine: sa.Engine, server: redis.Redis, few_are_many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given requests that are read in chunks of one entry, and others that are counted but come later
    monkeypatch.setattr(Chunk, "full", True)
    append(server, *map(envelope, range(FEW)))
    assert int(server.get(QUEUED) or 0) == FEW
    server.incrby(QUEUED, FEW)

    # When they are aggregated, Then that many are behind them
    aggregator.aggregate(engine, Inbox(server, 30), IN_AN_HOUR, lambda _: None)
    assert sizes(engine, "sealed") == [FEW]


def test_a_batch_is_never_larger_than_it_may_be_and_no_smaller_than_what_overlaps() -> None:
    small = replace(IN_AN_HOUR, count=10, behind=10**6)

    assert small.with_lane(0, now()).count == 10
    assert replace(IN_AN_HOUR, behind=10**6).with_lane(0, now()).count == OVERLAP_COUNT


def test_while_requests_keep_coming_they_are_read_and_a_batch_is_sealed_when_it_is_due(
    engine: sa.Engine, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that enqueues another request each time that the aggregator waits for more
    monkeypatch.setattr(aggregator, "SEAL_SECONDS", 0.0)
    waited: list[float] = []

    def enqueue(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) < 4:
            append(server, envelope(len(waited)))

    monkeypatch.setattr("carpool_worker.pipeline.batching.aggregator.time.sleep", enqueue)
    append(server, envelope(0))

    # When it runs once, Then all are read, and none waited in an open batch until the run's end
    read = aggregator.aggregate(engine, Inbox(server, 30), AT_ONCE, lambda _: None, gather=0.1)
    assert read == 4
    assert waited == [0.1] * 4
    assert sizes(engine, "sealed") == [1, 1, 1, 1]


def test_when_the_next_batch_is_due_is_known(engine: sa.Engine, server: redis.Redis) -> None:
    assert aggregator.seconds_until_due(engine, IN_AN_HOUR) is None

    # When a batch is open, Then it is due a flush interval after its first request
    append(server, envelope(1, model=MODEL))
    aggregator.aggregate(engine, Inbox(server, 30), IN_AN_HOUR, lambda _: None)
    assert aggregator.seconds_until_due(engine, IN_AN_HOUR) == pytest.approx(3_600, abs=20)
    assert aggregator.seconds_until_due(engine, AT_ONCE) == 0.0

    # When a request should be submitted sooner, Then it is due by then
    append(server, envelope(2, model=MODEL, submit_by=now() + LEAD + 60 * SECOND))
    aggregator.aggregate(engine, Inbox(server, 30), IN_AN_HOUR, lambda _: None)
    assert aggregator.seconds_until_due(engine, IN_AN_HOUR) == pytest.approx(60, abs=20)
