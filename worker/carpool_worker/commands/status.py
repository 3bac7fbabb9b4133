"""`carpool status`: everything on one screen."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from redis import Redis

    from carpool_worker.views.status import Overview

REDIS_SECONDS = 5.0
"""How long Redis may take to answer."""


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    check: Annotated[
        bool,
        typer.Option("--check", help="Print what needs an operator alone; exit code 1 if anything does."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show how everything stands, on one screen.

    What waits in the inbox, the lanes, the batches by state with the age of the oldest, how much of the account's queue
    is used, answers that are due or were given up on, whether workers and beat are alive, the last errors, and what
    needs an operator. It reads little, however many requests there are. Examples:

        carpool status --watch
        carpool status --check || notify "Carpool needs you"
        carpool status --json | jq .inbox
    """
    from redis import Redis

    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings

    if watch and (check or as_json):
        raise typer.BadParameter("neither with --check nor with --json", param_hint="--watch")
    check_tables()
    timeouts = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
    with Redis.from_url(settings().redis_url, **timeouts) as server:
        if watch:
            _watch(server, every)
            return
        seen = _look(server)
    _print(seen, check=check, as_json=as_json)


def _look(server: Redis) -> Overview:
    from carpool_worker.database import engine
    from carpool_worker.settings import settings
    from carpool_worker.views.status import look

    return look(engine(), server, settings())


def _print(seen: Overview, *, check: bool, as_json: bool) -> None:
    from rich.console import Console

    from carpool_worker.commands.status_screen import facts, screen
    from carpool_worker.views.alerts import alarms

    found = alarms(seen)
    if as_json:
        typer.echo(json.dumps(facts(seen, found)))
    elif not check:
        Console(highlight=False).print(screen(seen, found))
    else:
        typer.echo("\n".join(found) or "Nothing needs an operator.")
    if check and found:
        raise typer.Exit(1)


def _watch(server: Redis, every: float) -> None:
    from contextlib import suppress

    from rich.console import Console
    from rich.live import Live

    from carpool_worker.commands.status_screen import screen
    from carpool_worker.views.alerts import alarms

    console = Console(highlight=False)
    with (
        suppress(KeyboardInterrupt),
        Live(console=console, screen=console.is_terminal, auto_refresh=False) as live,
    ):
        while True:
            seen = _look(server)
            live.update(screen(seen, alarms(seen)), refresh=True)
            time.sleep(every)
