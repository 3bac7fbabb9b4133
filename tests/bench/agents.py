"""The agents one after another in this process, on one database: aggregate, submit, collect.

Nothing else here calls the agents, so where what they take changes, this file follows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psutil
import redis
import sqlalchemy as sa
from tests.bench import bare, payloads, places
from tests.bench.meter import Measured, Processes, measured, tree
from tests.bench.payloads import Params
from tests.bench.rows import Row, at_least
from tests.fixtures.waiting import until

from carpool import Callback, Producer
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read
from carpool_worker.models import tables
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.collection import collector, poller
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import submitter
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.setting_values import API_MAX_REQUESTS, START_QUEUE_LIMIT
from carpool_worker.states import BatchState
from carpool_worker.store.batches import rows as batches
from carpool_worker.units import Milliseconds

COUNT = 100_000
AGGREGATE_AIM, COLLECT_AIM = 60_000.0, 60_000.0
SUBMIT_POLICY = SubmitPolicy(submit_timeout=600, queue_limit=START_QUEUE_LIMIT)
COLLECT_POLICY = CollectPolicy(max_attempts=3, retry_interval=60.0)
AT_ONCE = Limits(count=API_MAX_REQUESTS, body_bytes=250_000_000, seconds=0.0)
CLAIM_SECONDS = 30
AGENT = "agent"
"""The name of this process, in which the agents run."""


@dataclass(frozen=True)
class Servers:
    """What the agents talk to besides their database."""

    valkey: redis.Redis
    simulator_url: str
    processes: Mapping[str, psutil.Process]


@contextmanager
def servers() -> Iterator[Servers]:
    """Run a Valkey and a simulator."""
    with places.valkey() as valkey, places.simulator() as (simulator, process):
        processes = {"valkey": places.valkey_process(valkey), "simulator": process}
        yield Servers(valkey, simulator.url, processes)


class Agents:
    """The agents on one database with the tables of the migrations."""

    def __init__(self, engine: sa.Engine, servers: Servers) -> None:
        self._engine = engine
        self._servers = servers
        self._claude = Claude()
        url = engine.url.render_as_string(hide_password=False)
        self.postmaster = places.postmaster(url.replace("+psycopg", ""))

    def enqueue(self, params: Iterable[Params], callback: Callback | None = None) -> int:
        """Append requests to the inbox; return how many."""
        url = places.url_of(self._servers.valkey)
        with Producer(url, client="bench", max_queued=0, allow_http=True) as producer:
            return len(producer.enqueue_many(params, callback=callback))

    def aggregate(self, count: int) -> None:
        """Take so many requests from the inbox into batches, and seal those."""
        taken = 0
        while taken < count:
            inbox = Inbox(self._servers.valkey, CLAIM_SECONDS)
            taken += aggregator.aggregate(self._engine, inbox, AT_ONCE, lambda _: None)

    def submit(self) -> list[str]:
        """Post what is sealed; the ids at Anthropic."""
        due = self._due(lambda connection, at: admitted(connection, at, SUBMIT_POLICY))
        for batch_id in due:
            submitter.submit(self._engine, self._claude, batch_id, SUBMIT_POLICY)
        with read(self._engine) as connection:
            return [str(batch.claude_id) for id_ in due if (batch := batches.get(connection, id_))]

    def poll(self) -> None:
        """Wait until all batches at Anthropic have ended."""
        claudes = [self._claude]
        until(lambda: not self._out(), bare.ENDED_WITHIN, step=lambda: poller.poll(self._engine, claudes))

    def collect(self) -> None:
        """Collect what has ended."""
        for batch_id in self._due(batches.due_to_collect):
            collector.collect(self._engine, self._claude, batch_id, COLLECT_POLICY, lambda *_: None)

    def finish(self, params: Iterable[Params], callback: Callback | None = None) -> int:
        """Enqueue requests and take them to their end, callbacks left to deliver; return how many."""
        count = self.enqueue(params, callback)
        self.finish_queued(count)
        return count

    def finish_queued(self, count: int) -> None:
        """Take the requests in the inbox to their end."""
        self.aggregate(count)
        self.finish_sealed()

    def seal(self) -> None:
        """Seal what is open."""
        aggregator.seal_due(self._engine, AT_ONCE)

    def finish_sealed(self) -> None:
        """Take the requests of sealed batches to their end."""
        self.submit()
        self.poll()
        self.collect()

    def close(self) -> None:
        """Close the connections to the API."""
        self._claude.close()

    @property
    def processes(self) -> Processes:
        """This process and the servers'."""
        trees = dict(self._servers.processes)
        if self.postmaster:
            trees["postgresql"] = self.postmaster
        return lambda: {AGENT: [psutil.Process()], **{name: tree(root) for name, root in trees.items()}}

    def _out(self) -> int:
        out = (BatchState.IN_PROGRESS, BatchState.CANCELING)
        with read(self._engine) as connection:
            return connection.execute(
                sa.select(sa.func.count()).where(tables.batches.c.state.in_(out))
            ).scalar_one()

    def _due(self, which: Callable[[sa.Connection, Milliseconds], list[str]]) -> list[str]:
        with read(self._engine) as connection:
            return which(connection, now())


class Stages:
    """Each agent measured, and compared with the bare work in a database with the same tables and no rows."""

    def __init__(self, engine: sa.Engine, spare: sa.Engine, servers: Servers) -> None:
        self._engine = engine
        self._spare = spare
        self._url = servers.simulator_url
        self._agents = Agents(engine, servers)
        self._claude_ids: list[str] = []

    def run(self, count: int) -> Iterator[Row]:
        """Yield a row for each stage, the requests already in the inbox."""
        self._agents.enqueue(payloads.prose(count))
        yield self._aggregate(count)
        yield self._submit(count)
        self._agents.poll()
        yield self._collect(count)
        self._agents.close()

    def _aggregate(self, count: int) -> Row:
        with measured(self._agents.processes) as spent:
            self._agents.aggregate(count)
        bare_seconds = bare.copy_rows(self._engine, self._spare)
        row = self._row("aggregate", count, spent, "INSERT of the same rows", bare_seconds)
        return replace(row, aims=(at_least(row.rate, AGGREGATE_AIM),))

    def _submit(self, count: int) -> Row:
        with measured(self._agents.processes) as spent:
            self._claude_ids = self._agents.submit()
        with tempfile.TemporaryFile() as body:
            bare.write_body(payloads.prose(count), body)
            _, bare_seconds = bare.post_batch(self._url, body)
        return self._row("submit", count, spent, "POST of as many bytes", bare_seconds)

    def _collect(self, count: int) -> Row:
        with measured(self._agents.processes) as spent:
            self._agents.collect()
        bare_seconds = sum(bare.collect(self._url, claude_id, self._spare) for claude_id in self._claude_ids)
        row = self._row("collect", count, spent, "the lines read, INSERT of them", bare_seconds)
        return replace(row, aims=(at_least(row.rate, COLLECT_AIM),))

    def _row(self, stage: str, count: int, spent: Measured, what: str, bare_seconds: float) -> Row:
        return Row(
            stage,
            self._engine.dialect.name,
            count,
            spent.seconds,
            what,
            bare_seconds,
            cpu=spent.cpu,
            peaks=spent.peaks,
        )
