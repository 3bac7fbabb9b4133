"""The agents one after another in this process, on one database: aggregate, submit, collect."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import redis
import sqlalchemy as sa
from tests.bench import bare, payloads
from tests.bench.meter import Measured, measured
from tests.bench.places import url_of
from tests.bench.rows import Row
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.collection import collector, poller
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import submitter
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.settings import API_MAX_REQUESTS, START_QUEUE_LIMIT
from carpool_worker.store.batches import rows as batches
from carpool_worker.units import Milliseconds

SIZE = 2_340
"""Bytes of a request's params: 100,000 of them make a batch of 240 MB."""

COUNT = 100_000
AGGREGATE_AIM, COLLECT_AIM = 35_000.0, 30_000.0
SUBMIT_AIM = 100_000 / 3.0
SUBMIT_POLICY = SubmitPolicy(submit_timeout=600, queue_limit=START_QUEUE_LIMIT)
COLLECT_POLICY = CollectPolicy(max_attempts=3, retry_interval=60.0)
AT_ONCE = Limits(count=API_MAX_REQUESTS, body_bytes=250_000_000, seconds=0.0)


class Agents:
    """The agents on one database, and another one with the same tables for the bare work."""

    def __init__(self, engine: sa.Engine, spare: sa.Engine, server: redis.Redis, url: str) -> None:
        self._engine = engine
        self._spare = spare
        self._server = server
        self._url = url
        self._claude = Claude()
        self._kind = engine.dialect.name

    def run(self, count: int) -> Iterator[Row]:
        """Yield a row for each stage."""
        with Producer(url_of(self._server), client="bench", max_queued=0) as producer:
            producer.enqueue_many(payloads.params(count, SIZE))
        yield self._aggregate(count)
        yield self._submit(count)
        yield self._collect(count)
        self._claude.close()

    def _aggregate(self, count: int) -> Row:
        taken = 0
        with measured() as spent:
            while taken < count:
                taken += aggregator.aggregate(self._engine, Inbox(self._server, 30), AT_ONCE, lambda _: None)
        bare_seconds = bare.copy_requests(self._engine, self._spare)
        return self._row("aggregate", count, spent, "INSERT of the same rows", bare_seconds, AGGREGATE_AIM)

    def _submit(self, count: int) -> Row:
        due = self._due(lambda connection, at: admitted(connection, at, SUBMIT_POLICY))
        with measured() as spent:
            for batch_id in due:
                submitter.submit(self._engine, self._claude, batch_id, SUBMIT_POLICY)
        until(lambda: poller.poll(self._engine, self._claude), bare.ENDED_WITHIN)
        bare_seconds = sum(self._post_bare(batch_id) for batch_id in due)
        return self._row("submit", count, spent, "POST of the same bytes", bare_seconds, SUBMIT_AIM)

    def _collect(self, count: int) -> Row:
        due = self._due(batches.due_to_collect)
        with measured() as spent:
            for batch_id in due:
                collector.collect(self._engine, self._claude, batch_id, COLLECT_POLICY, lambda _: None)
        bare_seconds = sum(
            bare.collect(self._url, self._claude_id(batch_id), self._spare) for batch_id in due
        )
        what = "the lines read, INSERT of them"
        return self._row("collect", count, spent, what, bare_seconds, COLLECT_AIM)

    def _post_bare(self, batch_id: str) -> float:
        with tempfile.TemporaryFile() as body:
            bare.write_body(self._engine, batch_id, body)
            claude_id, seconds = bare.post_batch(self._url, body)
        until(lambda: self._claude.retrieve(claude_id, {}).processing_status == "ended", bare.ENDED_WITHIN)
        return seconds

    def _due(self, which: Callable[[sa.Connection, Milliseconds], list[str]]) -> list[str]:
        with read(self._engine) as connection:
            return which(connection, now())

    def _claude_id(self, batch_id: str) -> str:
        with read(self._engine) as connection:
            batch = batches.get(connection, batch_id)
        assert batch
        return str(batch.claude_id)

    def _row(
        self, stage: str, count: int, spent: Measured, what: str, bare_seconds: float, aim: float
    ) -> Row:
        name = f"{stage} ({self._kind})"
        return Row(name, count, spent.seconds, what, bare_seconds, aim, spent.cpu_seconds, spent.peaks)
