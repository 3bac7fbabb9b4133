"""Four agents of each kind at once on PostgreSQL: none waits for another, and no two write the same row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.agents import COLLECT_POLICY, MODEL, SUBMIT_POLICY, request
from tests.fixtures.deliveries import deliver
from tests.fixtures.waiting import until

from carpool import Producer, Request, Webhook
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, open_engine, read
from carpool_worker.models import tables
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.collection import collector, poller
from carpool_worker.pipeline.inbox import shards
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import submitter
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.limits import Limits
from carpool_worker.store.batches import rows as batches

AGENTS = 4
REQUESTS = 4_000
LIMITS = Limits(count=250, body_bytes=250_000_000, seconds=3_600.0)
"""Batches are sealed when they are full; one that is only due, any aggregator may seal that finds it first."""
MOST_WAITING = 0.05
"""Share of the agents' time."""

RECORD_UPDATES = """
CREATE TABLE row_updates (agent text, updated text, key text);
CREATE FUNCTION record_update() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO row_updates SELECT current_setting('carpool.agent', true), TG_TABLE_NAME,
        (SELECT string_agg(to_jsonb(NEW) ->> name, ' ') FROM unnest(TG_ARGV) AS name);
    RETURN NULL;
END $$;
"""
SHARED = """
SELECT updated, key FROM row_updates WHERE agent LIKE :kind
GROUP BY updated, key HAVING count(DISTINCT agent) > 1
"""
UPDATERS = "SELECT count(DISTINCT agent) FROM row_updates WHERE agent LIKE :kind"
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND application_name LIKE 'side by side %'
"""


def record_updates(engine: sa.Engine) -> None:
    """Have PostgreSQL keep which agent, by the name that it gives its transactions, updated which row."""
    with engine.begin() as connection:
        connection.exec_driver_sql(RECORD_UPDATES)
        for table in tables.batches.metadata.sorted_tables:
            key = ", ".join(f"'{column.name}'" for column in table.primary_key)
            connection.exec_driver_sql(
                f"CREATE TRIGGER updates AFTER UPDATE ON {table.name} "
                f"FOR EACH ROW EXECUTE FUNCTION record_update({key})"
            )


@contextmanager
def sampled(engine: sa.Engine) -> Iterator[list[int]]:
    """Yield a list that grows by how many agents wait for a lock of the database, a hundred times a second."""
    over, samples = threading.Event(), list[int]()

    def sample() -> None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not over.wait(0.01):
                samples.append(connection.execute(sa.text(WAITING)).scalar_one())

    with ThreadPoolExecutor(1) as pool:
        sampling = pool.submit(sample)
        try:
            yield samples
        finally:
            over.set()
        sampling.result()


def name_transactions(engine: sa.Engine, name: str) -> None:
    """Name each transaction, not the connection: a pooler's connections are everybody's."""

    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL carpool.agent = '{name}'")

    sa.event.listen(engine, "begin", begun)


def all_at_once(url: str, kind: str, work: Callable[[sa.Engine, int], object]) -> None:
    """Run `work` in so many threads, each with connections of its own under the agent's name."""
    engines = [open_engine(f"{url}&application_name=side by side {kind} {n}") for n in range(AGENTS)]
    for n, engine in enumerate(engines):
        name_transactions(engine, f"side by side {kind} {n}")
    try:
        with ThreadPoolExecutor(AGENTS) as pool:
            for done in [pool.submit(work, engine, n) for n, engine in enumerate(engines)]:
                done.result()
    finally:
        for engine in engines:
            engine.dispose()


@pytest.mark.usefixtures("claudes", "simulator")
def test_four_agents_of_each_kind_share_no_row_and_wait_for_no_lock(
    postgres_url: str, migrated: Callable[[str], None], redis_url: str, receiver: Any
) -> None:
    # Given requests in four shards of the inbox
    migrated(postgres_url)
    engine, server, claude = open_engine(postgres_url), redis.Redis.from_url(redis_url), Claude()
    record_updates(engine)
    hook = Webhook(receiver.url("/claude"))
    with Producer(redis_url, client="tests", inbox_shards=AGENTS, allow_http=True) as producer:
        one = request()
        keyed = (Request(one, idempotency_key=str(n)) for n in range(REQUESTS))
        ids = producer.enqueue_many(keyed, callback=hook)

    def aggregate(own: sa.Engine, n: int) -> None:
        aggregator.aggregate(own, Inbox(server, 30, shards.SHARDS[n]), LIMITS, lambda _: None)

    def collect(own: sa.Engine, n: int) -> None:
        for batch_id in due[n::AGENTS]:
            assert collector.collect(own, Claude(), batch_id, COLLECT_POLICY, lambda *_: None)

    # When four aggregators take them, four collectors their results, and four couriers deliver those
    with sampled(engine) as while_aggregating:
        all_at_once(postgres_url, "aggregate", aggregate)
    aggregator.seal_due(engine, replace(LIMITS, seconds=0.0))
    with read(engine) as connection:
        to_submit = admitted(connection, now(), SUBMIT_POLICY)
    for batch_id in to_submit:
        submitter.submit(engine, claude, batch_id, SUBMIT_POLICY)
    until(lambda: len(ended(engine)) == len(to_submit), step=lambda: poller.poll(engine, [claude]))
    due = ended(engine)
    with sampled(engine) as while_collecting:
        all_at_once(postgres_url, "collect", collect)
    with sampled(engine) as while_delivering:
        all_at_once(postgres_url, "deliver", lambda own, _: deliver(own, webhook_concurrency=20))

    # Then each request was delivered once, from a batch of its shard
    assert sorted(headers["webhook-id"] for headers, _ in receiver.posts["/claude"]) == sorted(ids)
    with engine.connect() as connection:
        lanes = connection.execute(sa.text("SELECT DISTINCT lane, shard FROM batches ORDER BY shard")).all()
        assert [tuple(row) for row in lanes] == [(MODEL, shard) for shard in range(AGENTS)]

        # And no row was updated by two of a kind
        for kind, least in (
            ("aggregate", AGENTS),
            ("collect", AGENTS),
            ("deliver", 1),
        ):  # one may be so quick that it claims all
            named = {"kind": f"side by side {kind} %"}
            assert connection.execute(sa.text(UPDATERS), named).scalar_one() >= least
            assert connection.execute(sa.text(SHARED), named).all() == []

    # And they hardly ever waited for each other
    for samples in (while_aggregating, while_collecting, while_delivering):
        assert sum(samples) <= MOST_WAITING * AGENTS * len(samples)
    assert len(while_aggregating + while_collecting + while_delivering) > 50
    engine.dispose()
    server.close()


def ended(engine: sa.Engine) -> list[str]:
    with read(engine) as connection:
        return list(batches.due_to_collect(connection, now()))
