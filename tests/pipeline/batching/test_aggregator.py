"""The aggregator between a real Valkey and either database: each request once, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.agents import AT_ONCE, IN_AN_HOUR, MODEL
from tests.fixtures.assertions import assert_counts_are_exact
from tests.fixtures.inbox import append, envelope, packs
from tests.fixtures.queries import rows

from carpool.contract import ENTRY_FIELD, INBOX, QUEUED, Envelope, encode_entry
from carpool_worker.coordination.keys import GROUP, QUARANTINE
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.batching.lanes import Filled
from carpool_worker.pipeline.inbox import stream, stream_scripts
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.limits import Limits


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as server:
        yield server


def aggregate(engine: sa.Engine, inbox: Inbox, limits: Limits = IN_AN_HOUR) -> Filled:
    seen = Filled()

    def report(filled: Filled) -> None:
        seen.opened += filled.opened
        seen.sealed += filled.sealed

    aggregator.aggregate(engine, inbox, limits, report)
    return seen


def batches(engine: sa.Engine) -> list[Any]:
    return rows(engine, "SELECT lane, state, request_count FROM batches ORDER BY id")


def assert_inbox_is_empty(server: redis.Redis) -> None:
    assert server.xlen(INBOX) == 0
    assert int(server.get(QUEUED) or 0) == 0


def test_two_aggregators_at_once_pool_each_request_once(engine: sa.Engine, server: redis.Redis) -> None:
    # Given entries in which many requests come twice
    for start in range(0, 3_000, 50):
        append(server, *(envelope(n, model=f"model-{n % 3}") for n in range(start, start + 100)))

    # When two aggregators take them at the same time
    small = Limits(count=700, body_bytes=250_000_000, seconds=3_600.0)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(aggregate, engine, Inbox(server, 30), small) for _ in range(2)]:
            done.result()

    # Then
    [(total, distinct)] = rows(engine, "SELECT count(*), count(DISTINCT id) FROM requests")
    assert total == distinct == 3_050
    assert max(row.request_count for row in batches(engine)) <= 700
    assert_counts_are_exact(engine)
    assert_inbox_is_empty(server)


def test_the_same_requests_pooled_at_the_same_moment_are_inserted_once(engine: sa.Engine) -> None:
    same = packs([envelope(n) for n in range(500)])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(aggregator.pool, engine, same, IN_AN_HOUR) for _ in range(4)]:
            done.result()

    assert batches(engine) == [(MODEL, "open", 500)]
    assert_counts_are_exact(engine)


def test_an_aggregator_killed_before_it_acknowledged_leaves_nothing_twice(
    engine: sa.Engine, server: redis.Redis
) -> None:
    # Given one that committed and died
    append(server, *(envelope(n) for n in range(10)))
    [chunk] = Inbox(server, 30).chunks()
    aggregator.pool(engine, chunk.packs, IN_AN_HOUR)

    # When its entries are taken over
    aggregate(engine, Inbox(server, 0))

    assert batches(engine) == [(MODEL, "open", 10)]
    assert_counts_are_exact(engine)
    assert_inbox_is_empty(server)


def test_what_a_dead_aggregator_only_read_is_taken_over(engine: sa.Engine, server: redis.Redis) -> None:
    append(server, envelope(1))
    [_] = Inbox(server, 30).chunks()

    aggregate(engine, Inbox(server, 30))
    assert batches(engine) == []
    aggregate(engine, Inbox(server, 0))

    assert batches(engine) == [(MODEL, "open", 1)]
    assert_inbox_is_empty(server)


def test_a_worker_that_starts_again_under_its_old_name_keeps_what_its_former_life_read(
    engine: sa.Engine, server: redis.Redis
) -> None:
    # Given one that died with an entry in its hands, and came back as the same host and process id: a container
    append(server, envelope(1))
    [_] = Inbox(server, 30).chunks()

    # When it runs before that entry can be taken over
    aggregate(engine, Inbox(server, 30))
    assert server.xpending(INBOX, GROUP)["pending"] == 1

    # Then it is still there for the next worker
    aggregate(engine, Inbox(server, 0))
    assert batches(engine) == [(MODEL, "open", 1)]


def test_consumers_dont_pile_up(
    engine: sa.Engine, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        monkeypatch.setattr(
            aggregator, "RUN_SECONDS", -1.0 * n
        )  # the first run ends by itself, the others are cut
        append(server, envelope(n))
        aggregate(engine, Inbox(server, 30))

    assert server.xinfo_consumers(INBOX, GROUP) == []


def test_a_consumer_that_holds_entries_whose_reply_was_lost_is_kept_for_who_takes_them_over(
    engine: sa.Engine, server: redis.Redis
) -> None:
    # Given a read whose reply was lost, and repeated under the same name
    append(server, envelope(1))
    inbox = Inbox(server, 30)
    inbox._create_group()
    server.xreadgroup(GROUP, inbox._consumer, {INBOX: ">"})
    aggregate(engine, inbox)
    assert server.xpending(INBOX, GROUP)["pending"] == 1

    # When another takes over, Then nothing is lost
    aggregate(engine, Inbox(server, 0))
    assert batches(engine) == [(MODEL, "open", 1)]
    assert_inbox_is_empty(server)


def test_consumers_of_dead_processes_are_forgotten_once_they_hold_nothing(
    engine: sa.Engine, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given one that died with an entry, which another has stored since
    append(server, envelope(1))
    [_] = Inbox(server, 30).chunks()
    aggregate(engine, Inbox(server, 0))
    assert len(server.xinfo_consumers(INBOX, GROUP)) == 1

    # When an hour has passed
    script = stream_scripts.LEAVE_SCRIPT.replace(str(stream_scripts.CONSUMER_KEPT), "-1")
    monkeypatch.setattr(stream, "LEAVE_SCRIPT", script)
    aggregate(engine, Inbox(server, 30))

    # Then
    assert server.xinfo_consumers(INBOX, GROUP) == []


def test_acknowledging_twice_counts_once(server: redis.Redis) -> None:
    append(server, envelope(1), envelope(2))
    append(server, envelope(3))
    inbox = Inbox(server, 30)
    [chunk] = inbox.chunks()
    chunk.entries.pop()

    inbox.acknowledge(chunk)
    inbox.acknowledge(chunk)

    assert server.get(QUEUED) == b"1"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({ENTRY_FIELD: b"garbage"}, id="no msgpack"),
        pytest.param({b"v0": b"\x90"}, id="another field"),
        pytest.param({ENTRY_FIELD: encode_entry([{"id": "x"}])}, id="no envelopes"),
    ],
)
def test_an_entry_without_envelopes_is_quarantined_and_delays_nobody(
    engine: sa.Engine, server: redis.Redis, bad: dict[bytes, bytes]
) -> None:
    append(server, envelope(1))
    server.xadd(INBOX, bad)  # type: ignore[arg-type]
    append(server, envelope(2))

    aggregate(engine, Inbox(server, 30))

    assert batches(engine) == [(MODEL, "open", 2)]
    [(_, kept)] = cast(Any, server.xrange(QUARANTINE))
    assert bad.items() <= kept.items()
    assert b"error" in kept
    assert_inbox_is_empty(server)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"client": "a\0b"}, id="NUL in the client"),
        pytest.param({"model": "a\0b"}, id="NUL in the model"),
        pytest.param({"idempotency_key": "a\0b"}, id="NUL in the key"),
        pytest.param({"enqueued_at": 2**63}, id="a time that no database takes"),
        pytest.param({"callback": b"\xff"}, id="a callback that is no text"),
        pytest.param({"callback": b'{"kind":"pigeon"}'}, id="a callback of no kind"),
        pytest.param({"callback": b'{"kind":"webhook","url":"a\\u0000"}'}, id="NUL in the callback"),
        pytest.param({"metadata": b"\xff"}, id="metadata that is no text"),
        pytest.param({"metadata": b"{"}, id="metadata that is no JSON"),
    ],
)
def test_an_envelope_that_would_poison_its_chunk_is_quarantined_and_no_longer_counted(
    engine: sa.Engine, server: redis.Redis, bad: dict[str, Any]
) -> None:
    append(server, envelope(1))
    append(server, *(Envelope(**(as_dict(envelope(n)) | bad)) for n in (2, 3)))

    aggregate(engine, Inbox(server, 30))

    assert batches(engine) == [(MODEL, "open", 1)]
    assert server.xlen(QUARANTINE) == 1
    assert_inbox_is_empty(server)


def as_dict(one: Envelope) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def test_a_lane_is_sealed_at_its_count(engine: sa.Engine, server: redis.Redis) -> None:
    append(server, *(envelope(n) for n in range(7)))

    seen = aggregate(engine, Inbox(server, 30), Limits(3, 250_000_000, 3_600.0))

    assert [row[1:] for row in batches(engine)] == [("sealed", 3), ("sealed", 3), ("open", 1)]
    assert (len(seen.opened), len(seen.sealed)) == (3, 2)
    assert_counts_are_exact(engine)


def test_a_lane_is_sealed_before_it_passes_its_bytes(engine: sa.Engine, server: redis.Redis) -> None:
    append(
        server,
        *(envelope(n, params=b"{%398b}" % b"") for n in range(5)),
        envelope(5, params=b"{%4998b}" % b""),
    )

    aggregate(engine, Inbox(server, 30), Limits(100, 1_000, 3_600.0))

    states = [row[1:] for row in batches(engine)]
    assert states == [("sealed", 2), ("sealed", 2), ("sealed", 1), ("open", 1)]
    assert_counts_are_exact(engine)


def test_a_batch_is_sealed_when_its_first_request_has_waited_long_enough(
    engine: sa.Engine, server: redis.Redis
) -> None:
    append(server, envelope(1))
    aggregate(engine, Inbox(server, 30), IN_AN_HOUR)
    assert [row.state for row in batches(engine)] == ["open"]

    seen = aggregate(engine, Inbox(server, 30), AT_ONCE)

    assert [row.state for row in batches(engine)] == ["sealed"]
    assert len(seen.sealed) == 1


def test_a_request_that_comes_twice_in_one_chunk_goes_into_the_lane_of_the_first(
    engine: sa.Engine, server: redis.Redis
) -> None:
    append(server, envelope(1, model="first"), envelope(2, model="second"), envelope(1, model="second"))

    aggregate(engine, Inbox(server, 30))

    assert batches(engine) == [("first", "open", 1), ("second", "open", 1)]
    assert_counts_are_exact(engine)
    assert_inbox_is_empty(server)
