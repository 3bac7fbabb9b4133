"""Whatever a database does while the agents run, they lose nothing, send nothing twice, and recover by themselves."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool as AnyCarpool
from tests.fixtures.agents import request
from tests.fixtures.database_outages import Fault, administer, cut, no_login, postgres_url, setting
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker import engines
from carpool_worker.database import open_engine, write
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import rescuer
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.tasks.task_class import AWAY

__all__ = ["postgres_url"]

PROMPT = "PRIVATE PROMPT"
LOT = 20
"""Requests at each step."""

SEARCH_FOR_AN_HOUR = DoubtPolicy(submit_timeout=600, settle_interval=3_600)


@contextmanager
def locked(engine: sa.Engine) -> Iterator[None]:
    """Another program writes for longer than anybody waits."""
    with sqlite3.connect(str(engine.url.database), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    other.close()


def pragma(engine: sa.Engine, statement: str) -> None:
    """Set it on the connections that exist now, and drop later ones."""
    with engine.connect().execution_options(carpool_reads=True) as connection:
        connection.exec_driver_sql(statement)


@contextmanager
def full(engine: sa.Engine) -> Iterator[None]:
    """The disk is full: SQLITE_FULL, as soon as the file would grow."""
    pragma(engine, "PRAGMA max_page_count = 1")  # it is never less than there are
    yield
    pragma(engine, "PRAGMA max_page_count = 1000000")


@contextmanager
def unwritable(engine: sa.Engine) -> Iterator[None]:
    """The file can be read and no more: SQLITE_READONLY."""
    pragma(engine, "PRAGMA query_only = ON")
    yield
    pragma(engine, "PRAGMA query_only = OFF")


@contextmanager
def cut_again_and_again(engine: sa.Engine) -> Iterator[None]:
    """Each transaction finds its connection cut, within or before it."""
    doomed = itertools.cycle((False, True, True))

    def cut_this(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if next(doomed):
            pid = cursor.connection.info.backend_pid
            administer(engine, f"SELECT pg_terminate_backend({pid})")

    sa.event.listen(engine, "before_cursor_execute", cut_this)
    yield
    sa.event.remove(engine, "before_cursor_execute", cut_this)


POSTGRESQL: dict[str, Fault] = {
    "connections cut": cut_again_and_again,
    "read-only, as after a failover": setting("SET default_transaction_read_only = on", "RESET ALL"),
    "too many connections": setting("CONNECTION LIMIT 0", "CONNECTION LIMIT -1"),
    "no login": no_login,
    "statements canceled by a timeout": setting("SET statement_timeout = 1", "RESET ALL"),
}
SQLITE: dict[str, Fault] = {"locked": locked, "disk full": full, "read-only": unwritable}


class Carpool(AnyCarpool):
    """Its aggregators soon take over what a failed one left behind."""

    def aggregate(self) -> None:
        aggregator.aggregate(self.engine, Inbox(self.server, 0.001), self.limits, lambda _: None)


@pytest.fixture
def carpool(carpool: AnyCarpool) -> Carpool:
    return Carpool(carpool.engine, carpool.server, carpool.claude)


@pytest.fixture
def engine(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """As elsewhere, but a SQLite writer soon gives up."""
    monkeypatch.setattr(engines, "SQLITE_BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr(rescuer, "HEADSTART", 0)
    impatient = open_engine(engine.url.render_as_string(hide_password=False))
    yield impatient
    impatient.dispose()


FAULTS = [
    *(pytest.param("sqlite", fault, id=name) for name, fault in SQLITE.items()),
    *(pytest.param("postgresql", fault, id=name) for name, fault in POSTGRESQL.items()),
]


def attempt(*steps: Callable[[], None]) -> list[Any]:
    """Take each step once, as ticks do: what is raised is what the tasks know to be an outage."""
    failures: list[Any] = []
    for step in steps:
        try:
            step()
        except AWAY as failure:
            failures.append(failure)
    return failures


def rescued(carpool: Carpool) -> bool:
    """Settle doubts: a post whose answer could not be committed is found in the list; never is one made again."""
    rescuer.rescue(carpool.engine, [carpool.claude], SEARCH_FOR_AN_HOUR)
    return True


@pytest.mark.parametrize(("database_url", "fault"), FAULTS, indirect=["database_url"])
def test_an_outage_at_each_step_loses_nothing_and_runs_nothing_twice(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, fault: Fault
) -> None:
    # Given requests on their way, one lot more at each step
    steps = (carpool.aggregate, carpool.submit, carpool.poll, carpool.collect, carpool.stage)
    failures = []
    for number, step in enumerate(steps):
        producer.enqueue_many(request(f"{PROMPT} {number} {n}") for n in range(LOT))

        # When the database fails for two rounds, and is back for the next step
        with fault(carpool.engine):
            failures += attempt(*steps, *steps)
        attempt(step)  # a connection that was cut is found broken once

    # Then each failure is one that the tasks know, and quotes nothing
    assert len(failures) >= len(steps)
    assert not any(PROMPT in str(failure) for failure in failures)

    # And in the end every request has ended, each run once
    requests = LOT * len(steps)
    carpool.until(lambda: rescued(carpool) and carpool.ended(requests))
    ledger = simulator.ledger()
    assert ledger["ran_twice"] == []
    assert ledger["billed"] == ledger["distinct_custom_ids"] == requests


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_deadlock_between_serializable_transactions_costs_a_tick(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given results to collect, in a database whose transactions are serializable
    role = carpool.engine.url.username
    administer(carpool.engine, f"ALTER ROLE {role} SET default_transaction_isolation = serializable")
    cut(carpool.engine)
    attempt(carpool.stage)
    producer.enqueue_many(request(f"{PROMPT} {n}") for n in range(50))
    carpool.aggregate()
    carpool.submit()
    carpool.until_polled("ended")

    # When another transaction wants the rows that the collector wants, in the opposite order
    with ThreadPoolExecutor(1) as pool:
        failures = attempt(lambda: deadlock(carpool, pool))

    # Then one of the two fails with an error that the tasks know, and afterwards everything ends, each run once
    assert [type(failure.orig) for failure in failures] == [psycopg.errors.DeadlockDetected]
    carpool.until(lambda: carpool.ended(50))
    assert simulator.ledger()["ran_twice"] == []


def deadlock(carpool: Carpool, pool: ThreadPoolExecutor) -> None:
    """Collect while a transaction holds the last request and then wants the first; raise what either raises."""
    take = "UPDATE requests SET attempt = attempt WHERE id = (SELECT id FROM requests ORDER BY id {} LIMIT 1)"
    ours = f"usename = '{carpool.engine.url.username}'"
    waiting = f"SELECT 1 FROM pg_stat_activity WHERE {ours} AND wait_event_type = 'Lock'"
    with write(carpool.engine) as other:
        other.exec_driver_sql(take.format("DESC"))
        collecting = pool.submit(carpool.collect)
        until(lambda: carpool.rows(waiting))
        other.exec_driver_sql(take.format("ASC"))
    collecting.result(20)
