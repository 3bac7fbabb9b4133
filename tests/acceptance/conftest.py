"""`carpool up` as an operator runs it: real processes, on a data folder and ports of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests.fixtures import waiting
from tests.fixtures.gateway import gateway_database, gateway_engine, idle_carpool, secret
from tests.fixtures.processes import running
from tests.fixtures.waiting import Found

from carpool_worker.processes.data_folder import read_env
from carpool_worker.processes.up import READY

__all__ = ["gateway_database", "gateway_engine", "idle_carpool", "secret"]

READY_WITHIN = 150.0
STOPPED_WITHIN = 100.0
"""Seconds; machines that run these tests are slow and busy."""

QUICK_SETTINGS = {
    "CARPOOL_FLUSH_INTERVAL": "1",
    "CARPOOL_POLL_INTERVAL": "1",
    "CARPOOL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
}


@dataclass(frozen=True)
class Carpool:
    """A running `carpool up`, and where its parts are."""

    process: subprocess.Popen[str]
    data: Path
    redis_url: str
    database_url: str
    simulator_url: str
    flower_url: str  # with user and password
    metrics_url: str
    webhook_secret: str
    gateway_url: str
    gateway_secret: str

    @classmethod
    def of(cls, process: subprocess.Popen[str], data: Path) -> Carpool:
        """Return what runs on this folder, by what it has written there."""
        env = read_env(data)
        return cls(
            process=process,
            data=data,
            redis_url=env["CARPOOL_REDIS_URL"],
            database_url=env["CARPOOL_DATABASE_URL"],
            simulator_url=env["CARPOOL_SIMULATOR_URL"],
            flower_url=env["CARPOOL_FLOWER_URL"],
            metrics_url=env["CARPOOL_METRICS_URL"],
            webhook_secret=env["CARPOOL_WEBHOOK_SECRET"],
            gateway_url=env["ANTHROPIC_BASE_URL"],
            gateway_secret=env["ANTHROPIC_API_KEY"],
        )

    def processes(self) -> list[psutil.Process]:
        """Return every process of it, itself included."""
        whole = psutil.Process(self.process.pid)
        return [whole, *whole.children(recursive=True)]

    def pids(self) -> dict[str, int]:
        """Return the process id of each program that the supervisor runs at this moment."""
        [supervisor] = psutil.Process(self.process.pid).children()
        found = {}
        for program in supervisor.children():
            try:
                # Valkey writes its title over its environment
                found[program.environ().get("SUPERVISOR_PROCESS_NAME", "valkey")] = program.pid
            except psutil.Error:  # it has just ended
                continue
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal, wait for the end and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOPPED_WITHIN)


RunningCarpool = Callable[..., AbstractContextManager[Carpool]]


@pytest.fixture
def running_carpool(tmp_path: Path) -> RunningCarpool:
    """Return a context manager that runs `carpool up`: running_carpool(latency=1, CARPOOL_MAX_ATTEMPTS="2")."""

    @contextmanager
    def run(*, latency: float = 0.5, concurrency: int = 2, **environment: str) -> Iterator[Carpool]:
        data = tmp_path / "carpool"
        options = ["--any-port", "--latency", str(latency), "--concurrency", str(concurrency)]
        with up(data, *options, **environment) as process:
            wait_until_ready(process)
            carpool = Carpool.of(process, data)
            yield carpool
            assert_sigterm_stops_all(carpool)

    return run


def assert_sigterm_stops_all(carpool: Carpool) -> None:
    """An instance that its test has not stopped ends well on SIGTERM, and leaves no process behind."""
    if carpool.process.poll() is None:
        processes = carpool.processes()
        assert carpool.stop(signal.SIGTERM) == 0
        assert running(processes) == []


@contextmanager
def up(data: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run `carpool up` on the folder; kill what is left of it in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "carpool_worker.cli", "up", "--data", str(data), *options],
        cwd=data.parent,  # no config/carpool.toml there
        env=_environment() | QUICK_SETTINGS | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=STOPPED_WITHIN)


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("CARPOOL_", "ANTHROPIC_"))
    }


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    """Wait for the line that says so; fail with what was printed where it doesn't come."""
    deadline = time.monotonic() + READY_WITHIN
    printed: list[str] = []
    for line in process.stdout or ():
        printed.append(line)
        if line.strip() == READY:
            return
        if time.monotonic() > deadline:
            break
    pytest.fail(f"`carpool up` did not come up:\n{''.join(printed)}")


def until(condition: Callable[[], Found | None], within: float = 60.0) -> Found:
    """Return the first true value of `condition`, with the time that real processes take."""
    return waiting.until(condition, within)
