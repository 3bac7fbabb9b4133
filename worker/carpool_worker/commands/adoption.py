"""Commands find the `carpool up` that runs in this folder: its Redis, its database, and the settings of its worker."""

from __future__ import annotations

import os
import sys

import typer

from carpool import running_up

PROGRAMS = frozenset({"up", "demo", "worker", "beat", "flower", "gateway", "metrics", "simulator", "migrate"})
"""Commands that are, or prepare, a Carpool of their own."""

PLACES = ("CARPOOL_REDIS_URL", "CARPOOL_DATABASE_URL")

SIMULATED = "simulated"
"""The simulator takes any key."""


def adopt(command: str | None) -> None:
    """Take over the environment of a `carpool up` that runs in this folder, and say so in a dim line.

    Nothing is read for programs, nor for help.
    """
    if command in PROGRAMS or command is None or {"--help", "-h"} & set(sys.argv[1:]):
        return
    if take_over():
        typer.secho("Using the `carpool up` that runs in this folder.", dim=True, err=True)


def take_over() -> bool:
    """Take over the environment of a `carpool up` that runs in this folder, unless this one names other places.

    Settings that are set in this environment stay as they are. Returns whether it named no place itself.
    """
    if (found := running_up.find()) is None:
        return False
    named = [name for name in PLACES if os.environ.get(name)]
    if any(os.environ[name] != found.environment.get(name) for name in named):
        return False
    for name, value in found.environment.items():
        os.environ.setdefault(name, value)
    if found.simulator:
        os.environ |= {"ANTHROPIC_BASE_URL": found.simulator, "ANTHROPIC_API_KEY": SIMULATED}
    return not named
