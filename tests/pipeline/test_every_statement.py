"""What the agents ask the tables, each statement of each of them, is found by an index: the ledger grows forever."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery
from tests.bench.history import History
from tests.fixtures.agents import request
from tests.fixtures.deliveries import WEBHOOK_SECRET
from tests.fixtures.plans import explained
from tests.fixtures.receiver import Receiver
from tests.fixtures.waiting import until

from carpool import Producer, Request, Task, Webhook
from carpool_worker import database, migrations
from carpool_worker.app import app, configuration
from carpool_worker.coordination import connections
from carpool_worker.coordination.keys import FLOWER_REFRESH, POLLED
from carpool_worker.database import now, write
from carpool_worker.metrics import readings
from carpool_worker.models import tables
from carpool_worker.pipeline import pruner
from carpool_worker.settings import settings
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.tasks import agents, calls, followups
from carpool_worker.views import status

HISTORY = 600
"""Requests that have ended. How many they are does not matter: plans are made as if they were too many to read."""

ROUND = (
    "aggregate",
    "stage",
    "call",
    "poll",
    "rescue",
    "deliver",
    "reply",
    "prune",
    "show",
    "audit",
    "recount",
)
"""The tasks that beat sends, or that find their work by themselves; submit and collect come as messages."""

MOMENT = 1e-6
"""Days: all that has ended is older."""

ENVIRONMENT = {
    "CARPOOL_FLUSH_INTERVAL": "0",
    "CARPOOL_POLL_INTERVAL": "0.01",
    "CARPOOL_RETRY_INTERVAL": "0.01",
    "CARPOOL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CARPOOL_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "CARPOOL_WEBHOOK_SCHEDULE": "0.01",
    "CARPOOL_CACHE_SHARED_PROMPTS": "true",
    "CARPOOL_KEYS_RETENTION_DAYS": "29",
    "CARPOOL_REQUESTS_RETENTION_DAYS": "30",
    "CARPOOL_QUOTAS": '{"default": {"requests": 1000000}}',
    "CARPOOL_BUDGETS": '{"frugal": {"day": 0.0000001}}',
}


class Worker:
    """Runs the tasks as messages come, in this process."""

    def __init__(self) -> None:
        self.messages = deque[tuple[str, tuple[str, ...]]]()
        self.ran = set[str]()

    def notify(self, agent: str, names: Iterable[str] | None = None) -> None:
        self.messages += [(agent, ())] if names is None else [(agent, (name,)) for name in names]

    def go_round(self) -> None:
        connections.server().delete(POLLED)
        connections.server().set(FLOWER_REFRESH, 1)
        for name in ROUND:
            self.messages.append((name, ()))
            while self.messages:
                agent, arguments = self.messages.popleft()
                self.ran.add(f"carpool.{agent}")
                app.tasks[f"carpool.{agent}"].apply(arguments, throw=True)


@pytest.fixture
def worker(
    database_url: str,
    redis_url: str,
    simulator: RemoteSimulator,
    claudes: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Worker]:
    """The tasks, on a database whose tables are those of the migrations."""
    migrations.upgrade(database_url)
    given = {"CARPOOL_DATABASE_URL": database_url, "CARPOOL_REDIS_URL": redis_url} | ENVIRONMENT
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    caches = (settings, connections.server, connections.queues, connections._claude, connections._messages)
    _forget(*caches)
    worker = Worker()
    with Celery("statements", set_as_current=False) as celery:
        celery.config_from_object(configuration(settings()))
        monkeypatch.setattr(agents, "app", celery)
        assert calls.call.name == "carpool.call"
        monkeypatch.setattr(followups, "app", celery)
        monkeypatch.setattr(followups, "notify", worker.notify)
        yield worker
    connections.server().close()
    database.engine().dispose()
    _forget(*caches)


@pytest.fixture
def apart(database_url: str) -> Iterator[sa.Engine]:
    """An engine for what the test itself asks, whose statements are not looked at."""
    engine = database.open_engine(database_url)
    yield engine
    engine.dispose()


def _forget(*caches: Any) -> None:
    for one in (*caches, database.engine):
        one.cache_clear()


def test_no_statement_of_any_agent_reads_a_table_that_grows(
    worker: Worker, apart: sa.Engine, redis_url: str, receiver: Receiver
) -> None:
    # Given a long history
    receiver.answer("/fails", 500)
    engine = database.engine()
    with Producer(redis_url, client="billing", allow_http=True) as producer:
        producer.enqueue_many(wanted(receiver, ""))
        until(lambda: _at_rest(apart), step=worker.go_round)
    fill(engine)

    # When all agents work on new requests, with all that can happen to them
    worker.ran.clear()
    with explained(engine) as plans:
        with (
            Producer(redis_url, client="billing", allow_http=True) as producer,
            Producer(redis_url, client="frugal", allow_http=True) as frugal,
        ):
            producer.enqueue_many(wanted(receiver, "again "))
            unwanted = producer.enqueue_many([request(f"unwanted {number}") for number in range(3)])
            producer.cancel(*unwanted[:2], "f" * 32)
            frugal.enqueue_many([request(f"held {number}") for number in range(3)])
            worker.go_round()
            until(lambda: _at_rest(apart, "billing"), step=worker.go_round)
            frugal.cancel_all()
            worker.go_round()
            until(lambda: _at_rest(apart), step=worker.go_round)
        readings.read_tables(engine, settings())
        readings.count_rows(engine)
        status.status(engine, connections.server(), settings())
        pruned = pruner.prune(engine, *[MOMENT] * 4)

    # Then every task has run, and each of its statements goes by an index
    tasks = {name for name in app.tasks if name.startswith("carpool.")} - {"carpool.enqueue"}
    assert worker.ran == tasks
    assert len(plans.seen) > 100
    assert pruned.keys() >= {"params", "answers", "requests", "batches", "delivery_attempts"}
    assert plans.whole == {}


def wanted(receiver: Receiver, prefix: str) -> list[Request]:
    """Requests of three lanes, whose answers go everywhere, with tags and retries."""
    callbacks = (
        None,
        Webhook(receiver.url("/takes")),
        Webhook(receiver.url("/fails")),
        Task("billing.on_answer"),
    )
    models = ("claude-haiku-4-5", "claude-sonnet-4-5")
    return [
        Request(
            request(f"{prefix}{text} {number}", model) | {"system": "Be brief."},
            callback=callback,
            tags=["nightly"],
        )
        for text in ("fine", "flaky", "wrong")
        for model in models
        for number, callback in enumerate(callbacks)
    ]


def fill(engine: sa.Engine) -> None:
    """Copy what has ended until there is much of it, and let the database count it."""
    others: dict[sa.Table, dict[str, Any]] = {
        tables.attempts: {"attempt": 1, "at": 0, "milliseconds": 1, "request_id": "a" * 32},
        tables.unowned: {"headers": "{}", "found_at": now(), "settled_at": now(), "request_count": 1},
    }
    with write(engine) as connection:
        for table in (tables.attempts, tables.usage_entries):  # their ids have no time in them
            connection.execute(sa.delete(table))
    History(engine).write(engine, HISTORY, lambda _: None)
    with write(engine) as connection:
        for table, row in others.items():
            named = [
                row | ({} if table is tables.attempts else {"claude_id": f"msgbatch_{number}"})
                for number in range(HISTORY)
            ]
            connection.execute(sa.insert(table), named)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def _at_rest(engine: sa.Engine, client: str | None = None) -> bool:
    """Whether all requests (of that client) have ended, and all answers have been delivered or given up."""
    request, delivery = tables.requests.c, tables.deliveries.c
    of_client = sa.true() if client is None else request.client == client
    counts = (
        sa.select(sa.func.count()).where(of_client, request.finished_at.is_(None)),
        sa.select(sa.func.count()).where(delivery.delivered_at.is_(None), delivery.discarded_at.is_(None)),
        sa.select(sa.func.count()).where(of_client, request.finished_at.is_not(None)),
    )
    with database.read(engine) as connection:
        waiting, owed, ended = (connection.scalar(count) for count in counts)
    return waiting == owed == 0 and bool(ended)
