"""A whole Carpool of real processes, each of which can be killed, stopped and restarted by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import redis
from tests.chaos import programs, reading
from tests.chaos.books import Books
from tests.chaos.consumer import Consumer
from tests.chaos.databases import DATABASES, Database
from tests.chaos.points import Points
from tests.chaos.processes import Keeper, Program
from tests.chaos.producing import CLIENT
from tests.chaos.receiver import Receiver
from tests.chaos.traffic import Traffic
from tests.conftest import free_port
from tests.fixtures.owed_deliveries import refuse_owed_deliveries

from carpool_worker import migrations
from carpool_worker.app import inquirer
from carpool_worker.database import open_engine
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.settings import read_settings
from carpool_worker.simulator import RemoteSimulator

READY_SECONDS = 150.0
"""How long a worker may take to answer: they start slowly on a busy machine."""

MOST_DEATHS = 2
"""Starts of a worker that may fail before."""

PRODUCE_SECONDS = 30.0
"""How long a producer may take that is to die."""


class Stack:
    """What a scenario attacks. `workers`, `beat`, `simulator` and `valkey` are Programs, `database` a Database.

    `inject` counts a fault; `points` holds the crash points of the workers.
    """

    def __init__(
        self, folder: Path, database: Database, luck: Random, workers: int = 1, **environment: str
    ) -> None:
        self.folder = folder
        self.database = database
        self.luck = luck
        self.minutes = 1.0  # how long walks and luck may last
        self.injected: Counter[str] = Counter()
        self.notes: list[str] = []  # what else the report says about this run
        self.broken: list[str] = []  # promises that the attack itself saw broken
        self.forgotten: set[str] = set()  # requests that a restored backup knows nothing of
        self.points = Points(folder / "points")
        self._valkey_port, self._simulator_port = free_port(), free_port()
        self.redis_url = f"redis://127.0.0.1:{self._valkey_port}/0"
        self.remote = RemoteSimulator(f"http://127.0.0.1:{self._simulator_port}")
        self.environment = programs.environment(self.places(), environment)
        self.keeper = Keeper()
        self.valkey = self._program("valkey", programs.valkey(folder, self._valkey_port))
        self.simulator = self._program("simulator", programs.simulator(folder, self._simulator_port))
        self.workers = [self._mortal(f"worker{n}", "worker", "--concurrency", "3") for n in range(workers)]
        self.beat = self._mortal("beat", "beat")
        self.engine = open_engine(database.url, create=True)
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        with self._parts:  # what has started is stopped if the rest does not start
            self._parts.callback(self.engine.dispose)
            self._parts.callback(self.keeper.close)
            migrations.upgrade(self.database.url)
            refuse_owed_deliveries(self.database.url)
            for program in (self.valkey, self.simulator):
                program.start()
            self.receiver = Receiver(programs.WEBHOOK_SECRET)
            self._parts.callback(self.receiver.close)
            self.consumer = Consumer(self.redis_url)
            self._parts.callback(self.consumer.close)
            self.traffic = Traffic(self.redis_url, self.receiver.url, self.luck)
            self._parts.callback(self.traffic.close)
            for program in (*self.workers, self.beat):
                program.start()
            self.wait_until_ready()
            self._parts = self._parts.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._parts.close()

    def inject(self, kind: str, times: int = 1) -> None:
        """Count a fault, for the report."""
        self.injected[kind] += times

    def produce(self, moment: int) -> None:
        """Let a producer enqueue many and die at a moment; what it knew to be accepted goes into the books."""
        known = self.folder / f"known-{moment}-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "tests.chaos.producing", str(known), self.receiver.url, str(moment)]
        with suppress(subprocess.TimeoutExpired):
            ended = subprocess.run(
                wrapped(command), env=self.environment, cwd=self.folder, check=False, timeout=PRODUCE_SECONDS
            )
            if ended.returncode == -signal.SIGKILL:
                self.inject("producer: SIGKILL")
        if known.exists():
            self.traffic.accepted |= set(known.read_text().split())

    def places(self) -> dict[str, str]:
        """Return the settings that say where everything is."""
        return {
            "CARPOOL_REDIS_URL": self.redis_url,
            "CARPOOL_DATABASE_URL": self.database.url,
            "ANTHROPIC_BASE_URL": self.remote.url,
            "CHAOS_POINTS": str(self.points.folder),
        }

    def connection(self) -> redis.Redis:
        """Return a connection to Valkey."""
        return redis.Redis.from_url(self.redis_url)

    def flower(self) -> Program:
        """Return Flower, not started; most scenarios do without."""
        return self._mortal("flower", "flower", "--address", "127.0.0.1", "--port", str(free_port()))

    def heal(self) -> None:
        """End all disturbances: start every program, disarm faults and crash points."""
        self.points.disarm()
        self.receiver.misbehave(0)
        self.receiver.answer()
        for program in (self.valkey, self.simulator, *self.workers, self.beat):
            program.start()
        with suppress(OSError, RuntimeError):  # if it has just died, its faults are gone too
            self.remote.disarm()

    def books(self) -> Books:
        """Return the books as they stand."""
        self.injected.update(self.receiver.misdeeds)
        arrived = {
            "webhook": self.receiver.taken,
            "task": self.consumer.received,
            "reply": self.traffic.answered,
        }
        found = reading.fill(self.engine, self.remote, self.traffic.accepted, self.traffic.unknown, arrived)
        found.broken += [*self.broken, *self.receiver.broken, *self.consumer.broken]
        found.killed_clients = frozenset({CLIENT})
        found.broken += reading.quoted(self.folder, programs.WEBHOOK_SECRET)
        return found.without(self.forgotten)

    def wait_until_ready(self, workers: int = 1) -> None:
        """Return once so many workers answer; raises RuntimeError if they do not come up."""
        worker, over = self.workers[0], time.monotonic() + READY_SECONDS
        with inquirer(read_settings(redis_url=self.redis_url)) as celery:
            while time.monotonic() < over and worker.deaths <= MOST_DEATHS + self.injected["worker: SIGKILL"]:
                with suppress(redis.RedisError, OSError):  # Valkey is coming up, too
                    if len(celery.control.ping(timeout=1.0, limit=workers)) == workers:
                        return
        raise RuntimeError(f"the worker does not answer:\n{worker.last_words()}")

    def _program(self, name: str, command: list[str]) -> Program:
        return self.keeper.add(Program(name, command, self.environment, self.folder))

    def _mortal(self, name: str, *arguments: str) -> Program:
        return self._program(name, [sys.executable, "-m", "tests.chaos.mortal", *arguments])


@contextmanager
def running(
    database: str, luck: Random, workers: int = 1, kind: type[Stack] = Stack, **environment: str
) -> Iterator[Stack]:
    """Run a stack in a folder that is removed with it; `database` is sqlite or postgresql."""
    with (
        tempfile.TemporaryDirectory(prefix="carpool-chaos-", ignore_cleanup_errors=True) as name,
        DATABASES[database](Path(name)) as place,
        kind(Path(name), place, luck, workers, **environment) as stack,
    ):
        yield stack
