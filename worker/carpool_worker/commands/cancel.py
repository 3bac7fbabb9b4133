"""`carpool cancel`: requests, a batch, or all of a client."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    import sqlalchemy as sa

REQUEST_ID = re.compile("[0-9a-f]{32}")
SHOWN_UNKNOWN = 5
"""Ids named that the tables don't know; more are counted."""


def cancel(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Ids of requests.", show_default=False)
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="All requests of this batch: its id, or Anthropic's (msgbatch_…).", show_default=False
        ),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(
            help="All that this client has enqueued until now, in the inbox too.", show_default=False
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Cancel requests: by their ids, a batch of them, or all of a client.

    What Anthropic has not got yet ends at once, canceled, and costs nothing. What is there is marked: its answer is
    dropped when it comes, and paid for if it was made. A batch of which nothing is wanted any more is canceled at
    Anthropic too, at the next poll. Callbacks get `request.canceled`, with what it cost. To cancel again changes
    nothing. Examples:

        carpool cancel 01a2030b867d76f384b2c810994db967
        carpool cancel --batch msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d
        carpool cancel --client billing --yes
    """
    if [bool(ids), bool(batch), bool(client)].count(True) != 1:
        raise typer.BadParameter("name request ids, or --batch, or --client: one of them")
    for request_id in ids or ():
        if not REQUEST_ID.fullmatch(request_id):
            raise typer.BadParameter(
                f"{request_id} is no request's id: 32 hexadecimal digits, as enqueue returned it"
            )
    from carpool_worker.database import engine
    from carpool_worker.processes import preflight

    preflight.check_tables()
    named = list(dict.fromkeys(ids)) if ids else _waiting(engine(), batch, client)
    if not yes:
        typer.confirm(_question(len(named), batch, client), abort=True)
    _cancel(engine(), named)
    if client:
        _cancel_in_inbox(client)


def _waiting(engine: sa.Engine, batch: str | None, client: str | None) -> Sequence[str]:
    from carpool_worker.database import now, read
    from carpool_worker.store.reports import batches
    from carpool_worker.store.requests import cancellations

    with read(engine) as connection:
        if client:
            return cancellations.waiting_of_client(connection, client, now())
        found = batches.find(connection, str(batch))
        if found is None:
            raise WorkerError(f"there is no batch {batch}")
        return cancellations.waiting_in(connection, found.id)


def _question(count: int, batch: str | None, client: str | None) -> str:
    noun = counted(count, "request")
    if client:
        return f"Cancel {noun} of client {client!r}, and what of it is in the inbox?"
    return f"Cancel {noun} of batch {batch}?" if batch else f"Cancel {noun}?"


def _cancel(engine: sa.Engine, ids: Sequence[str]) -> None:
    from carpool_worker.operations.cancel import cancel_now

    outcome = cancel_now(engine, ids)
    typer.echo(outcome)
    for unknown in outcome.unknown[:SHOWN_UNKNOWN]:
        typer.echo(f"  unknown: {unknown}")
    if len(outcome.unknown) > SHOWN_UNKNOWN:
        typer.echo(f"  … and {len(outcome.unknown) - SHOWN_UNKNOWN:,} more")


def _cancel_in_inbox(client: str) -> None:
    from carpool import CarpoolError, Producer
    from carpool_worker.settings import settings

    try:
        with Producer(settings().redis_url, client=client) as producer:
            producer.cancel_all()
    except CarpoolError as error:
        raise WorkerError(f"what is still in the inbox is not canceled: {error}") from error
    typer.echo("What of it is still in the inbox is canceled as soon as a worker takes it.")
