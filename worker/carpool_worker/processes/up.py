"""`carpool up`: everything on one machine, until a signal stops it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from kombu.exceptions import OperationalError

from carpool_worker.exceptions import WorkerError
from carpool_worker.processes.data_folder import forget_running, lock, write_running
from carpool_worker.processes.local_stack import StackPlan, prepare
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.processes.preflight import check_key, check_redis, migrate
from carpool_worker.processes.programs_log import ProgramsLog
from carpool_worker.processes.stopping import Stopping
from carpool_worker.processes.supervision import configuration, programs
from carpool_worker.processes.up_screen import (
    READY,
    LiveLine,
    console,
    print_addresses,
    print_changed_ports,
    print_faults,
    print_ready,
)

__all__ = ["READY", "run"]

READY_WITHIN = 120.0
"""Seconds after which it is reported that no worker has answered."""

PING_SECONDS = 1.0

FIRST_KEY = {"client": "default", "name": "up", "scopes": ["messages", "batches", "usage", "callbacks"]}
"""The key that `carpool up` brings: it does what clients do, and is the client that a Producer is by default."""

LOOK_SECONDS = 0.5
"""Between two looks at what runs and what moves."""


def run(data: Path, *, latency: float, concurrency: int, any_port: bool, faults: Sequence[str] = ()) -> int:
    """Run everything until SIGINT or SIGTERM, and return the exit code.

    `faults` are names of simulator/kinds.py that are to be practised.

    Raises:
        AlreadyRunning: the data folder is in use.
        FolderUnusable: it can't be made, or not be written.
        WorkerError: the API key can't be sent, a Redis or a database that was given can't be used, or there is no
            simulator for the faults.
    """
    data = data.resolve()
    check_key()
    with lock(data) as data_lock:
        plan = prepare(data, any_port=any_port)
        if faults and not plan.simulator_url:
            raise WorkerError("--fault is for the simulator: unset ANTHROPIC_API_KEY")
        base_url = os.environ.get("ANTHROPIC_BASE_URL")
        os.environ.update(plan.for_programs())
        migrate()
        if plan.valkey_port is None:
            check_redis()
        _make_key(plan)
        running = programs(plan, latency=latency, concurrency=concurrency, faults=faults)
        (data / "supervisord.conf").write_text(configuration(plan, running))
        print_addresses(plan, base_url)
        print_faults(plan, faults)
        if not any_port:
            print_changed_ports(plan)
        write_running(data, plan.simulator_url)
        try:
            return _supervise(plan, data_lock)
        finally:
            forget_running(data)


def _make_key(plan: StackPlan) -> None:
    """Make the gateway's key that this folder has in a file, unless it is in the tables already."""
    from carpool_worker.database import engine
    from carpool_worker.operations import keys

    keys.ensure(engine(), FIRST_KEY, plan.gateway_secret, actor="up")
    engine().dispose()


def _supervise(plan: StackPlan, data_lock: IO[str]) -> int:
    command = wrapped(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(plan.data / "supervisord.conf")]
    )
    log = ProgramsLog(plan.logs / "supervisord.log")
    # In a process group of its own, so that Ctrl-C reaches this process alone, which passes it on. Supervisord inherits
    # the lock as its standard input, so the folder stays locked until everything has stopped.
    supervisor = subprocess.Popen(command, stdin=data_lock, process_group=0)  # noqa: S603
    stopping = Stopping(supervisor, log)
    try:
        _wait_until_ready(supervisor, stopping)
        _watch(supervisor, stopping)
    except BaseException:
        stopping.kill()
        raise
    code = supervisor.wait()
    if stopping.has_begun:
        console.print("Stopped.")
        return 0
    console.print(f"supervisord exited by itself with code {code}: see the logs.")
    return 1


def _watch(supervisor: subprocess.Popen[bytes], stopping: Stopping) -> None:
    """Show what moves until a signal comes, then see to it that all ends."""
    with LiveLine(_activity()) as line:
        while supervisor.poll() is None and not stopping.has_begun:
            line.refresh()
            _pause(supervisor)
    while supervisor.poll() is None:
        stopping.hurry()
        _pause(supervisor)


def _pause(supervisor: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        supervisor.wait(LOOK_SECONDS)


def _activity() -> Callable[[], object]:
    """Return what reads the line of what moves: what waits, and what has ended since now."""
    from carpool_worker.database import engine, now
    from carpool_worker.settings import settings
    from carpool_worker.views.activity import activity

    server, since = settings().redis(), now()
    return lambda: activity(engine(), server, since)


def _wait_until_ready(supervisor: subprocess.Popen[bytes], stopping: Stopping) -> None:
    from carpool_worker.app import app

    deadline = time.monotonic() + READY_WITHIN
    while supervisor.poll() is None and not stopping.has_begun:
        if _answers(app):
            print_ready()
            return
        if time.monotonic() > deadline:
            console.print(f"No worker has answered in {READY_WITHIN:.0f} seconds: see the logs.")
            return


def _answers(app: Any) -> bool:
    try:
        return bool(app.control.ping(timeout=PING_SECONDS, limit=1))
    except OperationalError:  # Redis is still starting
        time.sleep(PING_SECONDS)
        return False
