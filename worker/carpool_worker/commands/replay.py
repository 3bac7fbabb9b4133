"""`carpool deliveries replay`: what was given up on is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.times import Since
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    from carpool_worker.operations.replay import Replayed


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
    since: Since = None,
    all_: Annotated[bool, typer.Option("--all", help="All that were given up on.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Send again what was given up on, with a whole schedule of tries; their endpoints are started again.

    What was delivered isn't sent twice. --since counts from when they were given up on. Example, after one was mended:

        carpool deliveries replay --endpoint https://billing.example.com/claude --since 3d
    """
    from carpool_worker.database import engine, read
    from carpool_worker.operations import replay as replayer
    from carpool_worker.processes import preflight
    from carpool_worker.store.deliveries.dead_letters import Filter
    from carpool_worker.store.deliveries.dead_letters import counted as count

    if not (request_ids or endpoint or client or since is not None or all_):
        raise typer.BadParameter("say which: request ids, --endpoint, --client, --since or --all")
    preflight.check_tables()
    wanted = Filter(ids=request_ids or None, client=client, target=endpoint, since=since)
    with read() as connection:
        sendable, gone = count(connection, wanted)
    if sendable and not yes:
        typer.confirm(f"Send {counted(sendable, 'delivery', 'deliveries')} again?", abort=True)
    _report(replayer.replay(engine(), wanted), gone)


def _report(replayed: Replayed, gone: int) -> None:
    typer.echo(f"{counted(replayed.count, 'delivery', 'deliveries')} replayed.")
    for url in replayed.started:
        typer.echo(f"Started again: {url}")
    if gone:
        typer.echo(f"{counted(gone, 'delivery', 'deliveries')} can't be: the answer is no longer kept.")
