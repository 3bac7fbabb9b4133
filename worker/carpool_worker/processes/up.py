"""`carpool up`: everything on one machine, until a signal stops it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO, Any
from urllib.parse import urlsplit

from kombu.exceptions import OperationalError
from rich.console import Console

from carpool_worker.processes.data_folder import lock
from carpool_worker.processes.local_stack import (
    FLOWER_PORT,
    GATEWAY_PORT,
    METRICS_PORT,
    SIMULATOR_PORT,
    VALKEY_PORT,
    StackPlan,
    prepare,
)
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.processes.preflight import check_key, check_redis, migrate
from carpool_worker.processes.supervision import configuration, programs

READY_WITHIN = 120.0
"""Seconds after which it is reported that no worker has answered."""

PING_SECONDS = 1.0

FIRST_KEY = {"client": "default", "name": "up", "scopes": ["messages", "batches", "usage", "callbacks"]}
"""The key that `carpool up` brings: it does what clients do, and is the client that a Producer is by default."""

READY = "Ready."
"""Printed once the worker answers."""

console = Console(soft_wrap=True, highlight=False)


def run(data: Path, *, latency: float, concurrency: int, any_port: bool) -> int:
    """Run everything until SIGINT or SIGTERM, and return the exit code.

    Raises:
        AlreadyRunning: the data folder is in use.
        FolderUnusable: it can't be made, or not be written.
        WorkerError: the API key can't be sent, or a Redis or a database that was given can't be used.
    """
    data = data.resolve()
    check_key()
    with lock(data) as data_lock:
        plan = prepare(data, any_port=any_port)
        os.environ.update(plan.for_programs())
        migrate()
        if plan.valkey_port is None:
            check_redis()
        _make_key(plan)
        running = programs(plan, latency=latency, concurrency=concurrency)
        (data / "supervisord.conf").write_text(configuration(plan, running))
        _print_addresses(plan)
        if not any_port:
            _print_changed_ports(plan)
        return _supervise(data / "supervisord.conf", data_lock)


def _make_key(plan: StackPlan) -> None:
    """Make the gateway's key that this folder has in a file, unless it is in the tables already."""
    from carpool_worker.database import engine
    from carpool_worker.operations import keys

    keys.ensure(engine(), FIRST_KEY, plan.gateway_secret, actor="up")
    engine().dispose()


def _supervise(conf: Path, data_lock: IO[str]) -> int:
    command = wrapped([sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)])
    # In a process group of its own, so that Ctrl-C reaches this process alone, which passes it on. Supervisord inherits
    # the lock as its standard input, so the folder stays locked until everything has stopped.
    supervisor = subprocess.Popen(command, stdin=data_lock, process_group=0)  # noqa: S603
    stopping = _stop_on_signals(supervisor)
    try:
        _wait_until_ready(supervisor, stopping)
    except BaseException:
        supervisor.terminate()
        raise
    finally:
        code = supervisor.wait()
    if stopping:
        console.print("Stopped.")
        return 0
    console.print(f"supervisord exited by itself with code {code}: see the logs.")
    return 1


def _stop_on_signals(supervisor: subprocess.Popen[bytes]) -> list[int]:
    """Stop the supervisor on a signal, and return the list to which the signals received are appended."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not received:
            console.print("\nStopping: the gateway, beat, the worker, Flower, metrics, then what they need …")
        received.append(number)
        supervisor.terminate()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return received


def _wait_until_ready(supervisor: subprocess.Popen[bytes], stopping: list[int]) -> None:
    from carpool_worker.app import app

    deadline = time.monotonic() + READY_WITHIN
    while supervisor.poll() is None and not stopping:
        if _answers(app):
            console.print(READY)
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


def _print_addresses(plan: StackPlan) -> None:
    places = {
        "Redis": f"{_hidden(plan.redis_url)}{'  (embedded Valkey)' if plan.valkey_port else ''}",
        "Database": _hidden(plan.database_url),
        "Claude": f"{plan.simulator_url}  (simulator)"
        if plan.simulator_url
        else "the real API: batches cost money",
        "Gateway": f"{plan.gateway_url}  (Anthropic's API, at half price)",
        "Flower": plan.flower_url,
        "Metrics": f"{plan.metrics_url}  (for Prometheus)",
        "Logs": str(plan.logs),
        "Services": f"source {shlex.quote(str(plan.data / 'env'))}, "
        "then Producer().enqueue(…), or any program that uses Anthropic's API",
    }
    console.print("[bold]Carpool[/bold] is starting. Ctrl-C stops it.")
    for name, place in places.items():
        console.print(f"  {name:<9} {place}", markup=False)


def _print_changed_ports(plan: StackPlan) -> None:
    taken = {
        "The gateway": (GATEWAY_PORT, plan.gateway_port),
        "Flower": (FLOWER_PORT, plan.flower_port),
        "Metrics": (METRICS_PORT, plan.metrics_port),
        "The simulator": (SIMULATOR_PORT, plan.simulator_port),
        "Valkey": (VALKEY_PORT, plan.valkey_port),
    }
    for name, (preferred, port) in taken.items():
        if port not in (None, preferred):
            console.print(f"  Port {preferred} is taken; {name} is on {port}.")


def _hidden(url: str) -> str:
    """Return a URL without its password; options, which may have one, are left out."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{parts.scheme}://{user}{':***' if colon else ''}{at}{hosts}{parts.path}"
