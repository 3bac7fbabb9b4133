"""`carpool batches`: the batches, what each waits for, and the whole story of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import (
    After,
    BatchId,
    Before,
    Json,
    JsonObject,
    Limit,
    OfModel,
    Since,
    Yes,
    actor,
    confirm,
)
from carpool_worker.commands.paging import hint, only_one
from carpool_worker.commands.tables import print_json, print_json_object
from carpool_worker.formatting import counted
from carpool_worker.states import BatchState

if TYPE_CHECKING:
    from carpool_worker.views.batches import BatchFilter, BatchView

app = typer.Typer(rich_markup_mode="markdown")

States = Annotated[
    list[BatchState] | None,
    typer.Option("--state", help="Only batches in this state; may be repeated.", show_default="all"),
]

NotMade = Annotated[bool, typer.Option("--not-made", help="Its post has made no batch: post it again.")]
Made = Annotated[
    str | None,
    typer.Option(
        "--made", metavar="MSGBATCH", help="It is this batch at Anthropic: adopt it.", show_default=False
    ),
]


@app.callback(invoke_without_command=True)
def batches(
    context: typer.Context,
    state: States = None,
    model: OfModel = None,
    since: Since = None,
    limit: Limit = 20,
    before: Before = None,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List the batches, newest last, with what each of them waits for.

    A batch waits for more requests, for room in the account's queue, for a paused lane, or for Anthropic. If there is
    not room for all, clients take turns: it says how many batches go before, and whose turn it is. If the answer to its
    post was lost, it waits until Anthropic's list shows whether it was made. Times are UTC. Examples:

        carpool batches
        carpool batches --state sealed --state submitting
        carpool batches --model claude-haiku-4-5 --limit 100 --json | jq .waiting_for
        carpool batches show 01a2030b867d
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.commands.batch_tables import show_table
    from carpool_worker.views.batches import BatchFilter

    only_one(before, after)
    wanted = BatchFilter(states=state or (), model=model, since=since)
    found = _page(wanted, limit, before, after)
    if as_json:
        print_json(found)
        return
    show_table(found)
    if after is None:
        hint("batches", [batch.id for batch in found], limit)


@app.command()
def show(batch: BatchId, as_json: JsonObject = False) -> None:
    """Show what happened to one batch, in order of time, what it waits for, and how its requests stand."""
    from carpool_worker.commands.batch_tables import show_details
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.views.batches import find

    check_tables()
    with read() as connection:
        found = find(connection, settings(), batch)
    if as_json:
        print_json_object(found)
    else:
        show_details(found)


@app.command()
def resolve(batch: BatchId, not_made: NotMade = False, made: Made = None, yes: Yes = False) -> None:
    """Say what became of a batch in doubt, where Anthropic's list can't show it.

    A batch is in doubt while nobody knows whether its post has made one. Look at the batches in Anthropic's console
    first: if it is there, with as many requests, give its id, and its results are taken. Only if it isn't, say so: it
    is posted again, and paid for again should you be wrong. Examples:

        carpool batches resolve 01a2030b867d --made msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d
        carpool batches resolve 01a2030b867d --not-made
    """
    if not_made == bool(made):
        raise typer.BadParameter("say either --not-made or --made msgbatch_…")
    from carpool_worker.database import engine
    from carpool_worker.operations import resolve as operation
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings

    check_tables()
    doubted = operation.find_doubt(engine(), settings(), batch)
    with operation.client_of(settings(), doubted) as asked:
        if made:
            moved = operation.declare_made(engine(), asked, doubted, made, actor=actor())
            what = f"Batch {doubted.id} is {made}: its results are taken."
        else:
            confirm(
                f"Post the {counted(doubted.request_count, 'request')} of batch {doubted.id} once more?", yes
            )
            moved = operation.declare_not_made(engine(), asked, settings(), doubted, actor=actor())
            what = f"Batch {doubted.id} is posted again."
    typer.echo(what if moved else f"Batch {doubted.id} has moved on meanwhile.")


def _page(wanted: BatchFilter, limit: int, before: str | None, after: str | None) -> Sequence[BatchView]:
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.views.batches import page

    check_tables()
    with read() as connection:
        return page(connection, settings(), wanted, limit, before, after)
