"""`carpool deliveries replay`: sends again what was given up on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.completion import complete_endpoint
from carpool_worker.commands.options import OfClient, RequestIds, Since, Yes, actor, confirm
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    from carpool_worker.operations.replay import Replayed

Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        help="Only those to this URL or task; a URL that was stopped is started again.",
        show_default="all",
        autocompletion=complete_endpoint,
    ),
]
All = Annotated[bool, typer.Option("--all", help="All that were given up on.")]


def replay(
    request_ids: RequestIds = None,
    endpoint: Endpoint = None,
    client: OfClient = None,
    since: Since = None,
    all_: All = False,
    yes: Yes = False,
) -> None:
    """Deliver again what was given up on, with a whole schedule of tries; start its endpoints again.

    What was delivered isn't sent twice. --since counts from when a delivery was given up on. The id of a batch that a
    client made at the gateway (msgbatch_…) stands for the webhook of its end. Examples, once the receiver works again:

        carpool deliveries replay --endpoint https://billing.example.com/claude --since 3d
        carpool deliveries replay msgbatch_0103ffDsGxKsvFmCkDAxHLqb
    """
    if not (request_ids or endpoint or client or since is not None or all_):
        raise typer.BadParameter("name request ids, --endpoint, --client, --since or --all")
    from carpool_worker.database import engine, read
    from carpool_worker.operations import replay as operation
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views.deliveries import DeliveryFilter, count_dead_letters, told_apart

    check_tables()
    requests, client_batches = told_apart(request_ids or [])
    wanted = DeliveryFilter(
        ids=requests, client_batches=client_batches, client=client, target=endpoint, since=since
    )
    with read() as connection:
        dead = count_dead_letters(connection, wanted)
    if dead.sendable:
        confirm(f"Send {_deliveries(dead.sendable)} again?", yes)
    _report(operation.replay(engine(), wanted, actor=actor()), dead.gone)


def _report(replayed: Replayed, gone: int) -> None:
    typer.echo(f"{_deliveries(replayed.count)} replayed.")
    if not replayed.count and not gone:
        hint = "Nothing of this was given up on. What failed is tried again by itself"
        typer.echo(f"{hint}: carpool deliveries --state retryable", err=True)
    for url in replayed.started:
        typer.echo(f"Started again: {url}")
    if gone:
        typer.echo(f"{_deliveries(gone)} can't be replayed: the answer is no longer kept.")


def _deliveries(number: int) -> str:
    return counted(number, "delivery", "deliveries")
