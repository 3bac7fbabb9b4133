"""The demo's own `carpool up`, in a temporary folder; settings in the environment don't apply to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from carpool_worker.exceptions import WorkerError
from carpool_worker.processes.data_folder import read_env
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.processes.up import READY

STOP_WAIT = 120.0
"""How long everything may take to stop."""

QUICK_SETTINGS = {
    "CARPOOL_FLUSH_INTERVAL": "2",
    "CARPOOL_POLL_INTERVAL": "1",
    "CARPOOL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",  # the demo's receiver is on this machine
}
SIMULATED_LATENCY = "4"


@dataclass(frozen=True)
class Instance:
    """A running `carpool up`, and where its parts are."""

    process: subprocess.Popen[str]
    redis_url: str
    database_url: str
    flower_url: str
    simulator_url: str | None
    webhook_secret: str

    def check(self) -> None:
        """Raise WorkerError if it has ended."""
        if self.process.poll() is not None:
            raise WorkerError(f"`carpool up` ended with code {self.process.returncode}.")

    def wait(self) -> None:
        """Wait until it ends, or Ctrl-C."""
        try:
            self.process.wait()
        except KeyboardInterrupt:
            return


@contextmanager
def running(data: Path) -> Iterator[Instance]:
    """Run `carpool up` on the folder `data` while the context lasts.

    Raises:
        WorkerError: it did not start; the message has what it printed.
    """
    command = [sys.executable, "-m", "carpool_worker.cli", "up", "--any-port", "--data", str(data)]
    process = subprocess.Popen(  # noqa: S603
        wrapped([*command, "--latency", SIMULATED_LATENCY]),
        cwd=data,  # no config/carpool.toml there
        env={name: value for name, value in os.environ.items() if not name.startswith("CARPOOL_")}
        | QUICK_SETTINGS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,  # Ctrl-C reaches the demo alone, which then stops this one
    )
    try:
        _wait_until_ready(process)
        yield _instance(process, read_env(data))
    finally:
        process.terminate()
        process.communicate(timeout=STOP_WAIT)


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    printed = []
    for line in process.stdout or ():
        printed.append(line)
        if line.strip() == READY:
            return
    raise WorkerError(f"`carpool up` did not start:\n{''.join(printed)}")


def _instance(process: subprocess.Popen[str], env: dict[str, str]) -> Instance:
    return Instance(
        process=process,
        redis_url=env["CARPOOL_REDIS_URL"],
        database_url=env["CARPOOL_DATABASE_URL"],
        flower_url=env["CARPOOL_FLOWER_URL"],
        simulator_url=env.get("CARPOOL_SIMULATOR_URL"),
        webhook_secret=env["CARPOOL_WEBHOOK_SECRET"],
    )
