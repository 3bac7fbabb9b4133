"""`carpool deliveries replay`: what was given up on is sent again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.exceptions import WorkerError

if TYPE_CHECKING:
    from carpool_worker.replayer import Replayed

AGO = re.compile(r"(\d{1,5})([mhdw])")
SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def replay(
    request_ids: Annotated[
        list[str] | None, typer.Argument(help="Requests whose answers to send again.", show_default=False)
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Those to this URL or task; a URL that was stopped is started.", show_default=False
        ),
    ] = None,
    client: Annotated[str | None, typer.Option(help="Only those of this client.", show_default=False)] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Those given up on since: 90m, 12h, 3d or 2w ago.", show_default=False),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that were given up on.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Send again what was given up on, with a whole schedule of tries; their endpoints are started again.

    What was delivered isn't sent twice. Example, after a receiver was mended:

        carpool deliveries replay --endpoint https://billing.example.com/claude --since 3d
    """
    from carpool_worker import preflight, replayer
    from carpool_worker.database import engine, read
    from carpool_worker.store.dead_letters import Filter, counted

    if not (request_ids or endpoint or client or since or all_):
        raise WorkerError("say which: request ids, --endpoint, --client, --since or --all")
    preflight.check_tables()
    wanted = Filter(ids=request_ids or None, client=client, target=endpoint, since=_since(since))
    with read() as connection:
        sendable, gone = counted(connection, wanted)
    if sendable and not yes:
        typer.confirm(f"Send {_counted(sendable)} again?", abort=True)
    _report(replayer.replay(engine(), wanted), gone)


def _report(replayed: Replayed, gone: int) -> None:
    typer.echo(f"{_counted(replayed.count)} replayed.")
    for url in replayed.started:
        typer.echo(f"Started again: {url}")
    if gone:
        typer.echo(f"{_counted(gone)} can't be: the answer is no longer kept.")


def _since(written: str | None) -> int | None:
    from carpool_worker.database import now

    if written is None:
        return None
    if not (ago := AGO.fullmatch(written)):
        raise WorkerError(f"--since {written}: say 90m, 12h, 3d or 2w")
    return now() - int(ago[1]) * SECONDS[ago[2]] * 1_000


def _counted(number: int) -> str:
    return "1 delivery" if number == 1 else f"{number:,} deliveries"
