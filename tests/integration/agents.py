"""The agents in this process, called one by one instead of by Celery: fixtures and what the tests say with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from carpool import Producer
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, read, write
from carpool_worker.pipeline.batching import aggregator, budgeter, stager
from carpool_worker.pipeline.collection import collector, poller
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import rescuer, submitter
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.budgets import Budget
from carpool_worker.policies.limits import Limits
from carpool_worker.simulator import RemoteSimulator, SimulatorOptions, running
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.batches import rows as batches

MODEL = "claude-haiku-4-5"
AT_ONCE = Limits(count=100_000, body_bytes=250_000_000, seconds=0.0)
NO_PATIENCE = rescuer.Patience(submit_timeout=0.0, settle_interval=0.0, date_margin=0.0)


def request(text: str = "Hello", model: str = MODEL) -> dict[str, Any]:
    return {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": text}]}


@pytest.fixture
def simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteSimulator]:
    with running(SimulatorOptions(data=tmp_path / "simulator")) as remote:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", remote.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-simulated")
        yield remote


@dataclass
class Carpool:
    """The agents, called one by one instead of by Celery."""

    engine: sa.Engine
    server: redis.Redis
    claude: Claude
    limits: Limits = AT_ONCE
    patience: rescuer.Patience = NO_PATIENCE
    caches: bool = False
    announced: list[str] = field(default_factory=list)
    budgets: dict[str, Budget] = field(default_factory=dict)

    def aggregate(self) -> None:
        inbox = Inbox(self.server, 30)
        aggregator.aggregate(self.engine, inbox, self.limits, lambda _: None, self.budgets)

    def submit(self) -> None:
        with read(self.engine) as connection:
            due = admitted(connection, now())
        for batch_id in due:
            submitter.submit(self.engine, self.claude, batch_id, 60, cache_shared_prompts=self.caches)

    def poll(self) -> None:
        poller.poll(self.engine, self.claude)

    def collect(self) -> None:
        with read(self.engine) as connection:
            due = batches.due_to_collect(connection, now())
        for batch_id in due:
            collector.collect(self.engine, self.claude, batch_id, 3, 0.001, self.announced.extend)

    def go_round(self) -> None:
        for step in (self.aggregate, self.submit, self.poll, self.collect, self.stage):
            step()

    def stage(self) -> None:
        budgeter.release(self.engine, self.budgets)
        stager.stage(self.engine, self.limits)

    def rows(self, query: str) -> list[Any]:
        with read(self.engine) as connection:
            return list(connection.execute(sa.text(query)))

    def change(self, statement: str) -> None:
        with write(self.engine) as connection:
            connection.execute(sa.text(statement))

    def until_polled(self, state: str, count: int = 1) -> None:
        deadline = now() + 20_000
        while self.rows(f"SELECT count(*) FROM batches WHERE state = '{state}'")[0][0] < count:
            assert now() < deadline, self.rows("SELECT id, state FROM batches")
            self.poll()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = now() + 20_000
        while not condition():
            assert now() < deadline, self.rows("SELECT state, count(*) FROM requests GROUP BY state")
            self.forget_waiting()
            self.go_round()

    def forget_waiting(self) -> None:
        with write(self.engine) as connection:
            connection.execute(sa.update(batches.batches).values(due_at=0))
            connection.execute(sa.update(lane_pauses.pauses).values(probe_at=0))

    def ended(self, count: int) -> bool:
        return bool(self.rows("SELECT count(*) FROM requests WHERE finished_at IS NOT NULL")[0][0] == count)


@pytest.fixture
def claudes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every client that the test makes, or lets be made."""
    made: list[Claude] = []
    initialize = Claude.__init__

    def register(self: Claude, *arguments: Any) -> None:
        initialize(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Claude, "__init__", register)
    yield
    for claude in made:
        claude.close()


@pytest.fixture
def carpool(
    engine: sa.Engine, redis_url: str, simulator: RemoteSimulator, claudes: None
) -> Iterator[Carpool]:
    with redis.Redis.from_url(redis_url) as server:
        yield Carpool(engine, server, Claude())


@pytest.fixture
def producer(redis_url: str) -> Iterator[Producer]:
    with Producer(redis_url, client="tests", allow_http=True) as producer:
        yield producer
