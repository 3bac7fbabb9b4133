"""`carpool doctor`: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from carpool_worker.doctor import Finding

CONNECT_SECONDS = "10"
"""How long PostgreSQL may take to answer; by itself its library waits for minutes."""

COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False) -> None:
    """Look at everything that Carpool rests on, and say how to mend what is wrong.

    The settings, Redis, the database, the API key and its limits, the clocks, Celery's queues and beat, what webhooks
    need. Nothing is changed, and the one call of the API costs nothing. Run it where a worker runs, with the same
    environment. The exit code is 1 where something is wrong; a warning leaves it 0. Example:

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
    from dataclasses import asdict

    if as_json:
        typer.echo(json.dumps(asdict(finding)))
        return
    typer.secho(f"{finding.verdict:<8}", fg=COLOURS[finding.verdict], nl=False)
    typer.echo(f"{finding.check:<9} {finding.what}{f' → {finding.mend}' if finding.mend else ''}")
