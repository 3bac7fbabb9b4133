"""What the gateway and the agents ask about clients' batches is found by an index, however many there have been."""

from __future__ import annotations

import pytest
from tests.fixtures.agents import Carpool
from tests.fixtures.client_batches import CLIENT, end, make, results
from tests.fixtures.plans import GROWING, explained

from carpool_worker.database import now, read, write
from carpool_worker.models import tables
from carpool_worker.operations import client_batches, keys
from carpool_worker.policies.client_batches import shown_id
from carpool_worker.store import gateway_keys
from carpool_worker.store.client_batches import rows
from carpool_worker.store.requests import of_client_batches, reservations
from carpool_worker.store.requests import rows as requests
from carpool_worker.units import HOUR, Milliseconds

HISTORY = 3
"""Batches that have ended. Plans are made as if they were too many to read, see tests/fixtures/plans.py."""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # PostgreSQL reads so few rows whole
def test_no_statement_about_clients_batches_reads_a_table_that_grows(
    carpool: Carpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GROWING, "client_batches", tables.client_batches)

    # Given batches that have ended, and a key with a budget
    old = [end(carpool, make(carpool, [f"{n}-a", f"{n}-b"]).batch) for n in range(HISTORY)]
    terms = {"client": CLIENT, "name": "ci", "scopes": ["batches"], "day": "5"}
    keys.create(carpool.engine, terms, actor="tests")
    with carpool.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")

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

    # Then
    assert len(plans.seen) > 25
    assert plans.whole == {}
