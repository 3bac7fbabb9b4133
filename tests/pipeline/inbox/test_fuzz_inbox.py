"""Whatever is in the inbox: it is pooled and does no harm, or it is quarantined; what follows it is pooled."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any, cast

import hypothesis.strategies as st
import redis
from hypothesis import given
from tests.fixtures.agents import MODEL, Carpool
from tests.pipeline.fuzzing import fuzzed, json_values

from carpool.contract import (
    ENTRY_FIELD,
    INBOX,
    OLD_ENTRY_FIELD,
    QUEUED,
    Entry,
    Envelope,
    encode_entry,
    encode_old_entry,
    mint_id,
    to_json,
)
from carpool.segments import pack
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.database import read
from carpool_worker.policies.budgets import Budget
from carpool_worker.store.requests.answers import load_answers

PARAMS = to_json({"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]})
CALLBACK = b'{"kind":"webhook","url":"https://example.com/answers"}'
AT = 1_700_000_000_000
PLACES = {name: place for place, name in enumerate(Entry.__struct_fields__)}
OLD_PLACES = {name: place for place, name in enumerate(Envelope.__struct_fields__)}


def good(*request_ids: str) -> list[Any]:
    """Return the fields of an entry, in their order."""
    ids = bytes.fromhex("".join(request_ids))
    shared = ["tests", MODEL, {}, CALLBACK, 0]
    own = [ids, pack([PARAMS] * len(request_ids)), [AT] * len(request_ids), None, None, None, None]
    return [*shared, *own, [b"{}"] * len(request_ids), *[None] * 6]


def good_before(request_id: str) -> list[Any]:
    """Return the fields of an envelope of protocol version 1, in their order."""
    said: list[Any] = [request_id, "tests", MODEL, PARAMS, {}, CALLBACK, b"{}", None, AT]
    return [*said, 0, None, None]


anything = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary() | json_values
)
deep = st.integers(1, 3_000).map(lambda levels: b"[" * levels + b"]" * levels)
odd_json = st.one_of(
    json_values.map(to_json),
    deep,
    st.binary(max_size=20),
    st.binary(max_size=8).map(lambda text: b'{"x":"' + text + b'"}'),
    st.sampled_from([b"", b"{}", b"[]", b"null", b"NaN", b'"\\ud800"', b'"\\u0000"', b'"\xed\xa0\x80"']),
    st.just(b'{}},{"custom_id":"x","params":{}'),
)
headers = st.dictionaries(
    st.sampled_from(["anthropic-beta", "anthropic-workspace-id", "Authorization", "host", "a b", ""]),
    st.text(max_size=20) | st.sampled_from(["a,b", "x\r\nEvil: 1", " a", "a" * 3_000]),
    max_size=2,
)
numbers = st.integers(-(2**63), 2**64 - 1)
TEXTS = ["client", "model", "reply_to", "account", "gateway_key", "client_batch"]
urls = st.text() | st.sampled_from(["https://a/" + "u" * 9_000, "http://", "https://[::1", "https://a:99999"])
callbacks = st.builds(lambda url: to_json({"kind": "webhook", "url": url}), urls) | st.builds(
    lambda name, queue: to_json({"kind": "task", "name": name, "queue": queue}), st.text(), st.text()
)
old_changes = st.one_of(
    st.tuples(st.sampled_from(list(OLD_PLACES)[:12]), anything),
    st.tuples(st.sampled_from(["params", "callback", "metadata"]), odd_json),
    st.tuples(st.just("callback"), callbacks),
    st.tuples(st.just("headers"), headers),
    st.tuples(st.sampled_from(["client", "model", "idempotency_key"]), st.text() | st.just("long" * 3_000)),
    st.tuples(st.sampled_from(["enqueued_at", "priority", "submit_by"]), numbers),
)
segments = st.one_of(
    st.binary(),
    st.lists(odd_json, min_size=1, max_size=3).map(pack),
    st.builds(
        lambda place, byte: mutated(pack([PARAMS] * 2), place, byte), st.integers(0), st.integers(0, 255)
    ),
)
lists = st.lists(anything | st.text(max_size=80) | numbers, max_size=3)
changes = st.one_of(
    st.tuples(st.sampled_from(list(PLACES)), anything | lists),
    st.tuples(st.just("params"), segments),
    st.tuples(st.just("ids"), st.binary(min_size=31, max_size=33)),
    st.tuples(st.just("callback"), odd_json | callbacks),
    st.tuples(st.just("metadata"), st.lists(odd_json | st.none(), min_size=2, max_size=2)),
    st.tuples(st.just("headers"), headers),
    st.tuples(st.sampled_from(TEXTS), st.text() | st.just("long" * 3_000)),
    st.tuples(st.just("priority"), numbers),
    st.tuples(st.sampled_from(["enqueued_at", "submit_by", "deadlines"]), st.lists(numbers, min_size=2, max_size=2)),
    st.tuples(
        st.sampled_from(["idempotency_keys", "traces", "custom_ids"]),
        st.lists(st.text() | st.just("long" * 3_000), min_size=2, max_size=2),
    ),
    st.tuples(st.just("tags"), st.lists(st.lists(st.text(), max_size=12), min_size=2, max_size=2)),
)  # fmt: skip


def mutated(entry: bytes, place: int, byte: int) -> bytes:
    place %= len(entry)
    return entry[:place] + bytes([byte]) + entry[place + 1 :]


def encoded(fields: list[Any]) -> bytes:
    try:
        return encode_entry(fields)
    except (UnicodeEncodeError, OverflowError):
        return b""


def changed(change: tuple[str, Any]) -> bytes:
    fields = good(mint_id("tests"), mint_id("tests"))
    fields[PLACES[change[0]]] = change[1]
    return encoded(fields)


def changed_before(change: tuple[str, Any]) -> bytes:
    envelope = good_before(mint_id("tests"))
    envelope[OLD_PLACES[change[0]]] = change[1]
    return encoded([envelope])


def one_good() -> bytes:
    return encode_entry(good(mint_id("tests"), mint_id("tests")))


def one_good_before() -> bytes:
    return encode_old_entry([good_before(mint_id("tests"))])


entries = st.one_of(
    st.binary(),
    changes.map(changed),
    old_changes.map(changed_before),
    st.builds(mutated, st.builds(one_good), st.integers(0), st.integers(0, 255)),
    st.builds(mutated, st.builds(one_good_before), st.integers(0), st.integers(0, 255)),
    st.builds(lambda extra: encoded([*good(mint_id("tests")), extra]), anything),
    st.integers(0, 3_000).map(lambda levels: b"\x91" * levels + b"\x90"),
    st.integers(0, 2**32 - 1).map(lambda size: b"\xdd" + size.to_bytes(4, "big")),
)  # fmt: skip


def test_an_entry_is_pooled_and_harmless_or_quarantined_and_the_next_is_pooled(carpool: Carpool) -> None:
    carpool.budgets = {"default": Budget(day=Decimal(1_000_000))}
    accepted: list[str] = []

    @fuzzed(40)
    @given(
        st.lists(entries, min_size=1, max_size=4), st.sampled_from([ENTRY_FIELD, OLD_ENTRY_FIELD, b"v0", b""])
    )
    def attack(bad: list[bytes], field: bytes) -> None:
        # Given bad entries, then a good one
        before = carpool.server.xlen(QUARANTINE)
        for entry in bad:
            append(carpool.server, entry, field if field else ENTRY_FIELD)
        accepted.append(uuid.uuid4().hex)
        append(carpool.server, encode_entry(good(accepted[-1])), ENTRY_FIELD)

        # When
        carpool.aggregate()

        # Then
        assert carpool.rows(f"SELECT count(*) FROM requests WHERE id = id_of('{accepted[-1]}')") == [(1,)]
        assert carpool.server.xlen(INBOX) == 0
        assert carpool.server.get(QUEUED) == b"0"
        assert carpool.server.xlen(QUARANTINE) - before <= len(bad)

    attack()
    assert_all_that_was_taken_comes_to_its_end(carpool)


def append(server: redis.Redis, entry: bytes, field: bytes) -> None:
    server.xadd(INBOX, cast(Any, {field: entry}))
    server.incrby(QUEUED, 1)


def assert_all_that_was_taken_comes_to_its_end(carpool: Carpool) -> None:
    count = carpool.rows("SELECT count(*) FROM requests")[0][0]
    carpool.until(lambda: carpool.ended(count))
    assert carpool.rows("SELECT DISTINCT last_error FROM batches WHERE last_error IS NOT NULL") == []
    ids = [row[0] for row in carpool.rows("SELECT id FROM requests")]
    with read(carpool.engine) as connection:
        assert len(load_answers(connection, ids)) == count
