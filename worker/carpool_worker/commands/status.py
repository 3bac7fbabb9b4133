"""`carpool status`: everything on one screen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import JsonObject
from carpool_worker.commands.tables import print_json_object

if TYPE_CHECKING:
    from redis import Redis

    from carpool_worker.views.status import Status

REDIS_SECONDS = 5.0
"""How long Redis may take to answer."""

Watch = Annotated[bool, typer.Option("--watch", help="Draw it again and again, until Ctrl-C.")]
Every = Annotated[float, typer.Option("--every", min=0.1, help="With --watch: seconds between two drawings.")]
Check = Annotated[
    bool,
    typer.Option("--check", help="Print only what needs an operator; the exit code is 1 if anything does."),
]


def status(
    watch: Watch = False, every: Every = 2.0, check: Check = False, as_json: JsonObject = False
) -> None:
    """Show how everything stands, on one screen.

    What waits in the inbox, the lanes, the batches by state with the age of the oldest, how much of the account's queue
    is used, answers that are due or were given up on, whether workers and beat are alive, the last errors, and what
    needs an operator. It reads little, however many requests there are. Examples:

        carpool status --watch
        carpool status --check || notify "Carpool needs you"
        carpool status --json | jq .inbox
    """

    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings

    if watch and (check or as_json):
        raise typer.BadParameter("can't be combined with --check or --json", param_hint="--watch")
    check_tables()
    timeouts = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
    with settings().redis(**timeouts) as server:
        if watch:
            _watch(server, every)
            return
        current = _load(server)
    _print(current, check=check, as_json=as_json)


def _load(server: Redis) -> Status:
    from carpool_worker.database import engine
    from carpool_worker.settings import settings
    from carpool_worker.views.status import status as load

    return load(engine(), server, settings())


def _print(current: Status, *, check: bool, as_json: bool) -> None:
    from rich.console import Console

    from carpool_worker.commands.status_screen import screen
    from carpool_worker.views.alerts import alerts
    from carpool_worker.views.status import facts

    found = alerts(current)
    if as_json:
        print_json_object(facts(current) | {"needs_an_operator": list(map(str, found))})
    elif not check:
        Console(highlight=False).print(screen(current, found))
    else:
        typer.echo("\n".join(map(str, found)) or "Nothing needs an operator.")
    if check and found:
        raise typer.Exit(1)


def _watch(server: Redis, every: float) -> None:
    from contextlib import suppress

    from rich.console import Console
    from rich.live import Live

    from carpool_worker.commands.status_screen import screen
    from carpool_worker.views.alerts import alerts

    console = Console(highlight=False)
    with (
        suppress(KeyboardInterrupt),
        Live(console=console, screen=console.is_terminal, auto_refresh=False) as live,
    ):
        while True:
            current = _load(server)
            live.update(screen(current, alerts(current)), refresh=True)
            time.sleep(every)
