"""`carpool batches`: the batches, what each waits for, and the whole story of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import After, BatchId, Before, Json, JsonObject, Limit, OfModel, Since
from carpool_worker.commands.paging import hint, only_one
from carpool_worker.commands.tables import print_json, print_json_object
from carpool_worker.states import BatchState

if TYPE_CHECKING:
    from carpool_worker.views.batches import BatchFilter, BatchView

app = typer.Typer(rich_markup_mode="markdown")

States = Annotated[
    list[BatchState] | None,
    typer.Option("--state", help="Only batches in this state; may be repeated.", show_default="all"),
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

    A batch waits for more requests, for room in the account's queue, for a paused lane, or for Anthropic. If the answer
    to its post was lost, it waits until Anthropic's list shows whether it was made. Times are UTC. Examples:

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


def _page(wanted: BatchFilter, limit: int, before: str | None, after: str | None) -> Sequence[BatchView]:
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.views.batches import page

    check_tables()
    with read() as connection:
        return page(connection, settings(), wanted, limit, before, after)
