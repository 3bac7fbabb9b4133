"""Poison in the inbox, on both databases: what can be read but not stored stops nobody, and only it is quarantined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.inbox import append, envelope, waiting_in
from tests.fixtures.queries import rows

from carpool.contract import CANCEL_FIELD, INBOX, QUEUED, Cancel, Envelope, encode_cancel
from carpool_worker.coordination.keys import GROUP, QUARANTINE
from carpool_worker.database import blames_contents
from carpool_worker.pipeline.batching import aggregator, canceler
from carpool_worker.pipeline.inbox import quarantine, stream
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.limits import Limits
from carpool_worker.store.requests import intake

LIMITS = Limits(100_000, 10**8, 60)
POISON = b'{"poison":true}'

Fault = Callable[[sa.Connection], object]


def type_error(_: sa.Connection) -> None:
    raise TypeError("PRIVATE")


def key_error(_: sa.Connection) -> None:
    raise KeyError("PRIVATE")


def number_out_of_range(connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT CAST(:number AS integer) + 0"), {"number": 2**70})


def value_that_no_driver_sends(connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT :value"), {"value": object()})


def broken_constraint(connection: sa.Connection) -> None:
    connection.execute(sa.text("UPDATE requests SET state = NULL"))


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as server:
        yield server


@pytest.fixture(
    params=[type_error, key_error, number_out_of_range, value_that_no_driver_sends, broken_constraint]
)
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tables refuse requests whose params are POISON."""
    insert = intake.insert

    def checked(connection: sa.Connection, batch: str, some: Sequence[Envelope], *rest: Any) -> Any:
        inserted = insert(connection, batch, some, *rest)
        if any(one.params == POISON for one in some):
            request.param(connection)
        return inserted

    monkeypatch.setattr(intake, "insert", checked)


def aggregate(engine: sa.Engine, server: Any, claim_interval: float = 30) -> None:
    aggregator.aggregate(engine, Inbox(server, claim_interval), LIMITS, lambda _: None)


def stored(engine: sa.Engine) -> list[str]:
    return [id_ for (id_,) in rows(engine, "SELECT id FROM requests ORDER BY id")]


def quarantined(server: Any) -> set[str]:
    return {id_ for entry in quarantine.entries(server) for id_ in entry.ids()}


@pytest.mark.usefixtures("fault")
def test_only_what_cant_be_stored_is_quarantined(engine: sa.Engine, server: Any, caplog: Any) -> None:
    # Given entries of other clients before and after, and a large one with two poisoned requests
    poisoned = {3, 77}
    append(server, *(envelope(1_000 + n, priority=1) for n in range(5)))
    append(server, *(envelope(n, params=POISON if n in poisoned else b"{}") for n in range(1, 101)))
    append(server, *(envelope(2_000 + n, priority=2) for n in range(5)))

    # When
    aggregate(engine, server)

    # Then
    bad = {f"{n:032x}" for n in poisoned}
    assert quarantined(server) == bad
    assert len(stored(engine)) == 108
    assert bad.isdisjoint(stored(engine))
    assert (server.xlen(INBOX), server.get(QUEUED)) == (0, b"0")
    assert "PRIVATE" not in caplog.text
    [(count,)] = rows(engine, "SELECT sum(request_count) FROM batches")
    assert count == 108


def test_when_everything_is_poisoned_a_run_quarantines_so_many_and_keeps_the_rest(
    engine: sa.Engine, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def broken(*_: Any) -> None:
        raise AttributeError("a fault of a new version")

    monkeypatch.setattr(stream, "MOST_POISONED", 5)
    append(server, *(envelope(n) for n in range(20)))
    append(server, *(envelope(100 + n) for n in range(20)))

    # When
    with monkeypatch.context() as patch:
        patch.setattr(intake, "insert", broken)
        aggregate(engine, server)

    # Then the others are there, and are stored once the fault is mended
    first = quarantined(server)
    assert len(first) == 5
    assert len(waiting_in(server)) == 40
    aggregate(engine, server, claim_interval=0)
    assert len(stored(engine)) == 40
    assert (server.xlen(INBOX), server.get(QUEUED)) == (0, b"0")


def test_a_cancel_command_that_cant_be_applied_stops_nobody(
    engine: sa.Engine, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    apply_cancel = canceler.apply_cancel

    def refuse(engine: sa.Engine, command: Cancel) -> int:
        if command.client == "poison":
            raise ValueError("no")
        return apply_cancel(engine, command)

    monkeypatch.setattr(canceler, "apply_cancel", refuse)
    for client in ("poison", "tests"):
        server.xadd(INBOX, {CANCEL_FIELD: encode_cancel(Cancel(client, None, 2))})
    append(server, envelope(1))

    # When
    aggregate(engine, server)

    # Then
    [entry] = quarantine.entries(server)
    assert CANCEL_FIELD in entry.fields
    assert rows(engine, "SELECT state FROM requests") == [("canceled",)]
    assert server.xlen(INBOX) == 0


def test_an_outage_is_no_poison(engine: sa.Engine, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    append(server, envelope(1))

    def away(*_: Any) -> None:
        raise sa.exc.OperationalError("SELECT", None, Exception("gone"))

    # When
    with monkeypatch.context() as patch:
        patch.setattr(intake, "insert", away)
        with pytest.raises(sa.exc.OperationalError):
            aggregate(engine, server)

    # Then
    assert (server.xlen(QUARANTINE), len(waiting_in(server))) == (0, 1)
    assert server.xpending(INBOX, GROUP)["pending"] == 1


def test_a_full_quarantine_leaves_its_entries_in_the_inbox_and_the_others_go_on(
    engine: sa.Engine, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(quarantine, "ADD_SCRIPT", "return 0")
    server.xadd(INBOX, {b"junk": b"1"})
    append(server, envelope(1))
    append(server, envelope(2, idempotency_key="k", params=b"{}"))
    append(server, envelope(2, idempotency_key="k", params=b'{"other":1}'))

    # When
    aggregate(engine, server)

    # Then
    assert stored(engine) == [f"{1:032x}", f"{2:032x}"]
    assert (server.xlen(INBOX), server.xpending(INBOX, GROUP)["pending"]) == (2, 2)
    monkeypatch.undo()
    aggregate(engine, server, claim_interval=0)
    assert (server.xlen(INBOX), server.xlen(QUARANTINE)) == (0, 2)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TypeError(), True),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), True),
        (sa.exc.DataError("", None, psycopg.DataError("NUL")), True),
        (sa.exc.OperationalError("", None, psycopg.errors.ProgramLimitExceeded("index row")), True),
        (sa.exc.OperationalError("", None, psycopg.OperationalError("gone")), False),
        (sa.exc.ProgrammingError("", None, psycopg.errors.UndefinedTable("requests")), False),
        (sa.exc.InternalError("", None, psycopg.errors.ReadOnlySqlTransaction("standby")), False),
        (sa.exc.OperationalError("", None, psycopg.errors.DiskFull("disk")), False),
        (redis.exceptions.OutOfMemoryError(), False),
        (sa.exc.StatementError("", "", None, TypeError("not a number")), True),
        (sa.exc.TimeoutError("the pool has no connection left"), False),
        (ConnectionResetError(), False),
        (MemoryError(), False),
    ],
)
def test_which_errors_are_about_the_contents(error: Exception, expected: bool) -> None:
    assert blames_contents(error) is expected
