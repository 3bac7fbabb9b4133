"""What becomes of packed requests: params byte for byte, and keys that come again, with the same params or others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.agents import IN_AN_HOUR
from tests.fixtures.inbox import append, append_old, entry, envelope
from tests.fixtures.queries import params_bodies, rows

from carpool.contract import INBOX, OLD_ENTRY_FIELD, QUEUED, Envelope, decode_old_entry, encode_entry
from carpool.segments import SEGMENT_REQUESTS, pack
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.database import read
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.limits import Limits
from carpool_worker.store.requests import bodies

ODD = [b'{"a" : 1.0e2}', '{"text":"Grüße \u2028"}'.encode(), b'{ "\\u00e9":"\\/" }', b"{}"]


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as server:
        yield server


def aggregate(engine: sa.Engine, server: redis.Redis, limits: Limits = IN_AN_HOUR) -> None:
    aggregator.aggregate(engine, Inbox(server, 30), limits, lambda _: None)
    assert server.xlen(INBOX) == 0
    assert int(server.get(QUEUED) or 0) == 0


def keyed(number: int, params: bytes) -> Envelope:
    return envelope(number, params=params, idempotency_key=f"key {number}")


def quarantined(server: redis.Redis) -> list[bytes]:
    """The params of the requests in the quarantine."""
    entries: Any = server.xrange(QUARANTINE)
    kept = [fields[OLD_ENTRY_FIELD] for _, fields in entries]
    return [one.params for packed in kept for one in decode_old_entry(packed)]


def test_params_stay_byte_for_byte_from_either_version_regrouped_or_not_and_in_split_batches(
    engine: sa.Engine, server: redis.Redis
) -> None:
    # Given an entry of version 1, a full one of version 2, and singles
    sent = {f"{n:032x}": ODD[n % 4][:-1] + b" " * n + b"}" for n in range(260)}
    all_ = [envelope(n, params=params) for n, params in enumerate(sent.values())]
    append_old(server, all_[:30])
    append(server, *all_[30:230])
    for one in all_[230:]:
        append(server, one)

    # When they are pooled into batches smaller than a segment
    aggregate(engine, server, Limits(70, 250_000_000, 3_600))

    # Then
    assert params_bodies(engine) == sent
    spooled: dict[str, bytes] = {}
    with read(engine) as connection:
        for batch in rows(engine, "SELECT id FROM batches"):
            spooled |= bodies.of_batch(connection, batch.id, ())
    assert spooled == sent


def test_more_requests_than_a_segment_holds_are_divided(engine: sa.Engine, server: redis.Redis) -> None:
    # Given entries of version 1: many small requests, and some that are large together
    small = [envelope(n, params=b'{"n":%d}' % n) for n in range(450)]
    large = [envelope(450 + n, params=b'{"text":"%b"}' % (b"%02d" % n * 10_000)) for n in range(40)]
    append_old(server, small)
    append_old(server, large)

    aggregate(engine, server)

    sent = {one.id: one.params for one in (*small, *large)}
    assert params_bodies(engine) == sent


@pytest.mark.parametrize("bodies", [[b"{}"] * (SEGMENT_REQUESTS + 1), [b"a" * 200_000] * 2, []])
def test_what_could_not_be_read_again_is_not_written(bodies: list[bytes]) -> None:
    with pytest.raises(ValueError, match="no segment"):
        pack(bodies)


def test_a_full_entry_is_stored_as_it_came(engine: sa.Engine, server: redis.Redis) -> None:
    one = entry(*(envelope(n, params=b'{"n":%d}' % n) for n in range(50)))
    server.xadd(INBOX, {b"v2": encode_entry(one)})
    server.set(QUEUED, 50)

    aggregate(engine, server)

    assert [bytes(row.body) for row in rows(engine, "SELECT body FROM params")] == [one.params]


@pytest.mark.parametrize("apart", [False, True], ids=["in one chunk", "in two"])
@pytest.mark.parametrize("others", [0, 30], ids=["alone", "in a large entry"])
def test_a_key_that_comes_again_with_other_params_is_quarantined_and_the_first_stands(
    engine: sa.Engine, server: redis.Redis, apart: bool, others: int
) -> None:
    append(server, keyed(1, b'{"n":1}'))
    if apart:
        aggregate(engine, server)
    append(server, keyed(1, b'{"n":2}'), *(keyed(n, b"{}") for n in range(2, 2 + others)))
    append(server, keyed(1, b'{"n":1}'))

    aggregate(engine, server)

    assert params_bodies(engine)[f"{1:032x}"] == b'{"n":1}'
    assert rows(engine, "SELECT count(*) FROM requests") == [(1 + others,)]
    assert quarantined(server) == [b'{"n":2}']


def test_a_key_that_two_aggregators_take_at_once_with_other_params_stands_once(
    engine: sa.Engine, server: redis.Redis
) -> None:
    for n in range(200):
        append(server, keyed(n, b'{"first":1}'))
        append(server, keyed(n, b'{"second":2}'))

    with ThreadPoolExecutor(2) as pool:
        inboxes = [Inbox(server, 30) for _ in range(2)]
        runs = [pool.submit(aggregator.aggregate, engine, one, IN_AN_HOUR, lambda _: None) for one in inboxes]
        for done in runs:
            done.result()

    stored = params_bodies(engine)
    assert len(stored) == len(quarantined(server)) == 200
    assert (
        sorted([*stored.values(), *quarantined(server)]) == [b'{"first":1}'] * 200 + [b'{"second":2}'] * 200
    )
    assert int(server.get(QUEUED) or 0) == server.xlen(INBOX) == 0


def test_a_key_that_comes_again_with_the_same_params_is_one_request(
    engine: sa.Engine, server: redis.Redis
) -> None:
    append(server, keyed(1, b"{}"), keyed(2, b"{}"))
    append(server, keyed(2, b"{}"))
    aggregate(engine, server)
    append_old(server, [keyed(1, b"{}")])
    aggregate(engine, server)

    assert rows(engine, "SELECT count(*) FROM requests") == [(2,)]
    assert server.xlen(QUARANTINE) == 0
