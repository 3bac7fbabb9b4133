"""What the gateway and the agents ask about clients' batches is found by an index, however many there have been."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.bench.history import History
from tests.fixtures.agents import Carpool
from tests.fixtures.client_batches import CLIENT, end, make, results
from tests.fixtures.plans import GROWING, explained

from carpool_worker.database import now, read, write
from carpool_worker.models import tables
from carpool_worker.operations import client_batches, keys
from carpool_worker.policies.client_batches import shown_id
from carpool_worker.policies.keys import hash_of
from carpool_worker.store import gateway_keys
from carpool_worker.store.client_batches import rows
from carpool_worker.store.requests import of_client_batches, reservations
from carpool_worker.store.requests import rows as requests
from carpool_worker.units import HOUR, Milliseconds
from carpool_worker.views import usage

HISTORY = 3
"""Batches that have ended."""

COPIED = 1_000
"""Requests that ended before them: of a handful, PostgreSQL reads all, even by an index. That they were more still is
what plans are made for, see tests/fixtures/plans.py."""


def test_no_statement_about_clients_batches_reads_a_table_that_grows(
    carpool: Carpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GROWING, "client_batches", tables.client_batches)

    # Given many batches that have ended, and a key with a budget
    old = [end(carpool, make(carpool, [f"{n}-a", f"{n}-b"]).batch) for n in range(HISTORY)]
    fill(carpool.engine)
    terms = {"client": CLIENT, "name": "ci", "scopes": ["batches"], "day": "5"}
    secret = keys.create(carpool.engine, terms, actor="tests").secret

    # When all is done with batches that can be, and the agents go on beside it
    with explained(carpool.engine) as plans:
        new = make(carpool, ["c", "d"], idempotency_key="one", gateway_key="ci").batch
        assert not make(carpool, ["c", "d"], idempotency_key="one", gateway_key="ci").is_new
        other = make(carpool, ["e"], is_retry=True).batch
        assert not make(carpool, ["e"], is_retry=True).is_new
        oldest, newest = shown_id(old[0].id), shown_id(new.id)
        for around in ({}, {"after_id": newest}, {"before_id": oldest}):
            client_batches.page(carpool.engine, CLIENT, 2, **around)
        client_batches.cancel(carpool.engine, CLIENT, shown_id(other.id))
    for one in (new, other):
        end(carpool, one)  # what the agents ask is in test_every_statement
    with explained(carpool.engine, plans):
        assert len(results(carpool, new)) == 2
        client_batches.delete(carpool.engine, CLIENT, oldest)
        with write(carpool.engine) as connection:
            of_client_batches.correct_counts(connection, new.id, now())
            rows.overdue(connection, now() + 48 * HOUR)
            rows.next_expiry(connection)
            rows.archive(connection, Milliseconds(now() + HOUR), 1)
            rows.prune(connection, Milliseconds(now() + HOUR), 1)
            rows.purge(connection, CLIENT, now())

        # And the gateway asks about its key and its calls
        with read(carpool.engine) as connection:
            [key] = gateway_keys.with_budgets(connection, ["ci"])
            reservations.key_balances(connection, [key], now())
            requests.known(connection, ["f" * 32])
            requests.state_of(connection, "f" * 32, CLIENT)
            assert gateway_keys.find(connection, hash_of(str(secret))) == gateway_keys.get(connection, "ci")
            usage.totals(connection, ["key"], "2026-01-01")
        keys.rotate(carpool.engine, "ci", actor="tests")
        keys.revoke(carpool.engine, "ci", actor="tests")

    # Then
    assert len(plans.seen) > 25
    assert plans.whole == {}


def fill(engine: sa.Engine) -> None:
    """Copy what has ended until there is much of it, and have the database count it."""
    with write(engine) as connection:
        for table in (tables.attempts, tables.usage_entries):  # their ids have no time in them
            connection.execute(sa.delete(table))
    History(engine).write(engine, COPIED, lambda _: None)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
