"""The whole way: a `carpool up` of real processes, a service that enqueues and takes its answers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from tests.bench.meter import Measured, measured
from tests.bench.payloads import ANSWER
from tests.bench.rows import Row
from tests.bench.traffic import Told, service

from carpool_worker.processes.data_folder import read_env
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.processes.up import READY
from carpool_worker.simulator import RemoteSimulator, Script

COUNT = 100_000
AIM = 10_000.0
CONCURRENCY = 4
STOP_SECONDS = 100.0
ANSWERS_WITHIN = 150.0
"""Seconds after which a run is given up."""

QUICK_SETTINGS = {"CARPOOL_FLUSH_INTERVAL": "1", "CARPOOL_POLL_INTERVAL": "1"}


def run(database_url: str | None, bare_seconds: float, count: int) -> Row:
    """Measure from the first enqueue to the last answer; without a database's URL on the embedded SQLite."""
    with (
        up(database_url) as (process, redis_url),
        service(redis_url, count) as (service_pid, pipe),
        measured(Programs(process.pid, service_pid).by_name) as spent,
    ):
        pipe.send("begin")
        if not pipe.poll(ANSWERS_WITHIN):
            raise TimeoutError(f"not all answers came within {ANSWERS_WITHIN:.0f} s")
        told: Told = pipe.recv()
    return _row("postgresql" if database_url else "sqlite", count, told, spent, bare_seconds)


@contextmanager
def up(database_url: str | None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `carpool up` in a temporary folder, simulated batches taking no time; its process and its Redis' URL."""
    with tempfile.TemporaryDirectory(prefix="carpool-bench-") as folder:
        options = ["--any-port", "--data", folder, "--latency", "0", "--concurrency", str(CONCURRENCY)]
        process = subprocess.Popen(
            wrapped([sys.executable, "-m", "carpool_worker.cli", "up", *options]),
            cwd=folder,  # no config/carpool.toml there
            env=_environment(database_url),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            _wait_until_ready(process)
            env = read_env(Path(folder))
            RemoteSimulator(env["CARPOOL_SIMULATOR_URL"]).script(Script(text=ANSWER))
            yield process, env["CARPOOL_REDIS_URL"]
        finally:
            process.terminate()
            process.communicate(timeout=STOP_SECONDS)


class Programs:
    """The processes of a `carpool up` by their program's name, and the service beside it."""

    def __init__(self, up_pid: int, service_pid: int) -> None:
        self._up = psutil.Process(up_pid)
        self._service = psutil.Process(service_pid)
        self._names: dict[int, str] = {}

    def by_name(self) -> Mapping[str, list[psutil.Process]]:
        """Return those that run now; the worker's children are `worker` as it is."""
        found = defaultdict(list, {"service": [self._service]})
        for process in self._up.children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                found[self._name(process)].append(process)
        return found

    def _name(self, process: psutil.Process) -> str:
        if process.pid not in self._names:
            # Valkey writes its title over its environment; what has no program's name is the supervisor
            name = process.environ().get("SUPERVISOR_PROCESS_NAME") or process.name().removesuffix("-server")
            self._names[process.pid] = name
        return self._names[process.pid]


def _row(kind: str, count: int, told: Told, spent: Measured, bare_seconds: float) -> Row:
    what = "the same by hand, step by step"
    cpu_seconds = sum(spent.worked.values())
    name = f"whole way ({kind})"
    return Row(name, count, told.last_answer_seconds, what, bare_seconds, AIM, cpu_seconds, spent.peaks)


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    printed = []
    for line in process.stdout or ():
        printed.append(line)
        if line.strip() == READY:
            return
    raise RuntimeError(f"`carpool up` did not come up:\n{''.join(printed)}")


def _environment(database_url: str | None) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("CARPOOL_", "ANTHROPIC_"))
    }
    return kept | QUICK_SETTINGS | ({"CARPOOL_DATABASE_URL": database_url} if database_url else {})
