"""The world that the model lives in: what clients ask for, how it ends, what goes wrong, and where it all runs."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import request
from tests.fixtures.owed_deliveries import refuse_owed_deliveries
from tests.model.interruptions import Fuse, PorousClaude, make_porous

from carpool import Request, Task, Webhook
from carpool.enqueue_options import DeadlinePolicy
from carpool_worker import migrations
from carpool_worker.claude import results
from carpool_worker.database import now, open_engine
from carpool_worker.pipeline.batching import stager
from carpool_worker.pipeline.inbox import chunks, stream
from carpool_worker.prompt_cache import savings
from carpool_worker.simulator import (
    SPEND_LIMIT_REACHED,
    Fault,
    RemoteSimulator,
    Script,
    SimulatorOptions,
    running,
)

LANES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("claude-haiku-4-5", ()),
    ("claude-sonnet-4-5", ()),
    ("claude-haiku-4-5", ("output-300k-2026-03-24",)),
)
CALLBACKS = (None, Webhook("https://example.com/answers"), Task("billing.on_answer"))
FATES = {
    "fine": "completed",
    "refusing": "completed",
    "flaky": "completed",
    "late": "completed",
    "wrong": "discarded",
    "hopeless": "discarded",
    "unwanted": "canceled",
}
"""How requests of that text end."""

SCRIPTS = (
    Script(contains="refusing", outcome="refused"),
    Script(contains="flaky", outcome="errored", error_type="overloaded_error", times=1),
    Script(contains="late", outcome="expired", times=1),
    Script(contains="wrong", outcome="errored", error_type="invalid_request_error"),
    Script(contains="hopeless", outcome="errored"),
    Script(contains="unwanted", outcome="canceled"),
)
FAULTS = (
    *(Fault(operation="create", kind=kind) for kind in ("lost", "lost", "dropped", "dropped")),
    *(Fault(operation="create", kind="error_after", status=status) for status in (500, 504)),
    *(Fault(operation="create", kind="error", status=s) for s in (400, 401, 403, 413, 429, 500, 529)),
    *(Fault(operation=name, kind="dropped") for name in ("list", "retrieve", "results")),
    *(Fault(operation=name, kind="error", status=500) for name in ("list", "retrieve", "results")),
    *(Fault(operation=name, kind="error", status=404) for name in ("retrieve", "results", "list")),
    *(Fault(operation="list", kind="error", status=400),),
    *(Fault(operation="create", kind="error", status=429, error_code=SPEND_LIMIT_REACHED),),
    *(Fault(operation="results", kind="truncated"),),
)


DAYS = 20 * 24 * 3_600.0
"""Seconds until an urgent request is due, so that many hours may pass before."""


class Wanted(NamedTuple):
    """A request that a client enqueues."""

    fate: str
    lane: int
    callback: int
    keyed: bool
    other: bool = False
    """With a key: its params are other ones than it came with else."""
    urgent: DeadlinePolicy | None = None
    """It has a deadline, which may cost this."""

    def request(self, number: int) -> Request:
        model, betas = LANES[self.lane]
        key = f"{self.fate} {self.lane} {self.callback}" if self.keyed else None
        text = f"{self.fate} otherwise" if self.other else self.fate
        text = text if self.keyed else f"{self.fate} {number}"
        # Not in the first lane with a webhook, where the systematic attacks expect one batch to stay one.
        shared = {"system": "Be brief."} if self.lane == 1 or self.callback != 1 else {}
        return Request(
            request(text, model) | shared,
            callback=CALLBACKS[self.callback],
            idempotency_key=key,
            betas=betas,
            deadline=DAYS if self.urgent else None,
            deadline_policy=self.urgent,
        )


@dataclass
class World:
    """What the examples share; each has a database, an inbox and clients of its own."""

    folder: Path
    redis_url: str
    simulator: RemoteSimulator
    claude: PorousClaude
    fuse: Fuse
    numbers: Iterator[int]
    deleted: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    _made: list[str] = field(default_factory=list)
    _posts_seen: int = 0

    @cached_property
    def engine(self) -> sa.Engine:
        """One for all examples: what it has compiled once need not be compiled for each."""
        engine = open_engine(f"sqlite:///{self.folder}/carpool.db", create=True)
        sa.event.listen(engine, "connect", lambda one, _: one.execute("PRAGMA synchronous = OFF"))
        make_porous(engine, self.fuse)
        return engine

    def new_engine(self) -> sa.Engine:
        """Return the engine, on an empty database; who had it before has disposed of its connections."""
        for ending in ("", "-wal", "-shm"):
            (self.folder / f"carpool.db{ending}").unlink(missing_ok=True)
        shutil.copyfile(self.folder / "empty.db", self.folder / "carpool.db")
        return self.engine

    def made(self) -> list[str]:
        """Wait until the simulator has ended every batch; return their ids, the oldest first."""
        if self._posts_seen < self.claude.posts:
            self._posts_seen = self.claude.posts
            self._look()
        return self._made

    def _look(self) -> None:
        deadline = now() + 60_000
        newest = next((one for one in reversed(self._made) if one not in self.deleted), None)
        with self.without_faults():
            newer = self.claude.really_newer(newest)
            while any(remote.processing_status != "ended" for remote in newer):
                assert now() < deadline
                newer = self.claude.really_newer(newest)
        newer = [remote for remote in newer if remote.id not in self.counts]
        self._made += reversed([remote.id for remote in newer])
        self.counts |= {remote.id: remote.request_count or 0 for remote in newer}

    @contextmanager
    def without_faults(self) -> Iterator[None]:
        """Let what the model itself asks for succeed."""
        faults = self.simulator.waiting_faults()
        if faults:
            self.simulator.disarm()
        yield
        if faults:
            self.simulator.arm(*faults)


def make_tables(folder: Path, *, guarded: bool = True) -> None:
    """Make the database that each example begins with; `guarded`: it refuses to owe a delivery."""
    (folder / "empty.db").unlink(missing_ok=True)
    migrations.upgrade(f"sqlite:///{folder}/empty.db")
    if guarded:
        refuse_owed_deliveries(f"sqlite:///{folder}/empty.db")


@pytest.fixture
def world(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # Small transactions, so that few requests take several.
    monkeypatch.setattr(stream, "READ_ENTRIES", 2)
    monkeypatch.setattr(chunks, "CHUNK_REQUESTS", 3)
    monkeypatch.setattr(results, "CHUNK_LINES", 2)  # not 1: a segment of answers has several
    monkeypatch.setattr(stager, "CHUNK_REQUESTS", 2)
    # Any shared prompt is long enough to be cached, and any saving worth a warm-up.
    monkeypatch.setattr(savings, "shortest", lambda _: 0)
    monkeypatch.setattr(savings, "LEAST_WORTH", 0)
    make_tables(tmp_path)
    fuse = Fuse()
    options = SimulatorOptions(data=tmp_path / "simulator", requests_per_minute=10_000_000, scripts=SCRIPTS)
    with running(options) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-simulated")
        claude = PorousClaude(fuse)
        yield World(tmp_path, redis_url, simulator, claude, fuse, itertools.count())
        claude.close()
