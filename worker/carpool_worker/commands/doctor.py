"""`carpool doctor`: what is wrong with this installation, and how to fix it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import typer

from carpool_worker.commands.options import Json

if TYPE_CHECKING:
    from carpool_worker.doctor import Finding

CONNECT_SECONDS = "10"
"""How long PostgreSQL may take to answer; its library alone would wait for minutes."""

SHOWN = ("check", "verdict", "what", "mend")
COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}


def doctor(as_json: Json = False) -> None:
    """Check everything that Carpool depends on, and explain how to fix what is wrong.

    That is the settings, Redis, the database, the API key and its limits, the clocks, Celery's queues and beat, paused
    lanes, what webhooks need, and receivers that fail. Nothing is changed, and the one call of the API costs nothing.
    Run it where a worker runs, with the same environment. The exit code is 1 if something is wrong: it doesn't work
    now, as with a lane that Carpool had to pause, or a receiver that takes no deliveries. A warning, as of a lane that
    an operator paused, leaves it 0. Examples:

        carpool doctor
        carpool doctor --json | jq 'select(.verdict != "ok")'
    """
    os.environ.setdefault("PGCONNECT_TIMEOUT", CONNECT_SECONDS)
    from carpool_worker.doctor import Verdict, examine

    wrong = False
    for finding in examine():
        wrong |= finding.verdict is Verdict.WRONG
        _print(finding, as_json)
    raise typer.Exit(1 if wrong else 0)


def _print(finding: Finding, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({name: getattr(finding, name) for name in SHOWN}))
        return
    typer.secho(f"{finding.verdict:<8}", fg=COLOURS[finding.verdict], nl=False)
    typer.echo(f"{finding.check:<9} {finding.what}{f' → {finding.mend}' if finding.mend else ''}")
