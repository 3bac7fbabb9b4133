"""`carpool cancel`: requests, a batch, or all of a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.completion import complete_batch, complete_client
from carpool_worker.commands.options import Yes, actor, confirm
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    from carpool_worker.operations.cancel import CancelOutcome

MOST_UNKNOWN = 5
"""Ids printed that the tables don't know; the others are counted."""

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="REQUEST", help="The ids of requests.", show_default=False),
]
Batch = Annotated[
    str | None,
    typer.Option(
        "--batch",
        help="All requests of this batch, named by its id or Anthropic's (msgbatch_…).",
        show_default=False,
        autocompletion=complete_batch,
    ),
]
Client = Annotated[
    str | None,
    typer.Option(
        "--client",
        help="Everything that this client has enqueued until now, even what is still in the inbox.",
        show_default=False,
        autocompletion=complete_client,
    ),
]


def cancel(ids: Ids = None, batch: Batch = None, client: Client = None, yes: Yes = False) -> None:
    """Cancel requests: by their ids, all of a batch, or all of a client.

    A request that Anthropic doesn't have yet ends at once, and costs nothing. The answer to one that it has is dropped
    when it comes, and is paid for if it was made. A batch whose requests are all canceled is canceled at Anthropic too,
    at the next poll. Callbacks get `request.canceled`, with the cost. To cancel a request again changes nothing.
    Examples:

        carpool cancel 01a2030b867d76f384b2c810994db967
        carpool cancel --batch msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d
        carpool cancel --client billing --yes
    """
    if [bool(ids), bool(batch), bool(client)].count(True) != 1:
        raise typer.BadParameter("name either request ids, or --batch, or --client")
    from carpool.contract import REQUEST_ID

    for request_id in ids or ():
        if not REQUEST_ID.fullmatch(request_id):
            raise typer.BadParameter(
                f"{request_id} is not a request's id: 32 hexadecimal digits, as enqueue returned it"
            )
    from carpool_worker.database import engine
    from carpool_worker.operations import cancel as operation
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings

    check_tables()
    named = list(dict.fromkeys(ids)) if ids else _unfinished(batch, client)
    confirm(_question(len(named), batch, client), yes)
    _print(operation.cancel(engine(), named, actor=actor()))
    if client:
        operation.cancel_in_inbox(settings(), client, actor=actor())
        typer.echo("Requests still in the inbox are canceled when a worker reads them.")


def _unfinished(batch: str | None, client: str | None) -> Sequence[str]:
    from carpool_worker.database import engine
    from carpool_worker.operations import cancel as operation

    if client:
        return operation.unfinished_of_client(engine(), client)
    return operation.unfinished_in_batch(engine(), str(batch))


def _question(count: int, batch: str | None, client: str | None) -> str:
    requests = counted(count, "request")
    if client:
        return f"Cancel {requests} of client {client!r}, and those still in the inbox?"
    return f"Cancel {requests} of batch {batch}?" if batch else f"Cancel {requests}?"


def _print(outcome: CancelOutcome) -> None:
    parts = [
        (outcome.canceled, "canceled before Anthropic ran them: they cost nothing"),
        (
            outcome.at_anthropic,
            "at Anthropic: their answers will be dropped, and are paid for if already made",
        ),
        (outcome.ended, "had already ended"),
        (len(outcome.unknown), "unknown: never enqueued, or still in the inbox"),
    ]
    typer.echo(" · ".join(f"{count:,} {words}" for count, words in parts if count) or "nothing to cancel")
    for unknown in outcome.unknown[:MOST_UNKNOWN]:
        typer.echo(f"  unknown: {unknown}")
    if len(outcome.unknown) > MOST_UNKNOWN:
        typer.echo(f"  … and {len(outcome.unknown) - MOST_UNKNOWN:,} more")
