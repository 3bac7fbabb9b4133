"""`carpool batches`: the batches, what each waits for, and the whole story of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carpool_worker.commands.completion import complete_batch
from carpool_worker.commands.paging import LIKE, After, Before, Json, Limit, hint, only_one, the_one
from carpool_worker.commands.tables import print_json
from carpool_worker.commands.times import Since
from carpool_worker.states import BatchState

if TYPE_CHECKING:
    import sqlalchemy as sa

    from carpool_worker.models import Batch

app = typer.Typer(rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def batches(
    context: typer.Context,
    state: Annotated[
        list[BatchState] | None,
        typer.Option(help="Only batches in this state; may be repeated.", show_default="all"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only batches of this model.", show_default="all")] = None,
    since: Since = None,
    limit: Limit = 20,
    before: Before = None,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List the batches, the newest last, and say what each waits for.

    A batch waits for more requests, for room in the account's queue, for a paused lane, for Anthropic, or, where the
    answer to its post was lost, for Anthropic's list to show whether it was made. Times are UTC. Examples:

        carpool batches
        carpool batches --state sealed --state submitting
        carpool batches --model claude-haiku-4-5 --limit 100 --json | jq .waiting_for
        carpool batches show 01a2030b867d
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.commands import batch_tables
    from carpool_worker.commands.scenes import scene
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store.reports.batches import page

    only_one(before, after)
    check_tables()
    with read() as connection:
        ends = [_find(connection, one).id if one else None for one in (before, after)]
        found = page(connection, limit, state or (), model, since, *ends)
        around = scene(connection)
    if as_json:
        print_json([batch_tables.facts(batch, around) for batch in found])
        return
    batch_tables.show_table(found, around)
    if after is None:
        hint("batches", [batch.id for batch in found], limit)


@app.command()
def show(
    batch: Annotated[
        str,
        typer.Argument(
            help="A batch's id, or Anthropic's (msgbatch_…), or its beginning.", autocompletion=complete_batch
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell one batch's story in order of time, what it waits for, and how its requests stand."""
    from carpool_worker.commands import batch_tables
    from carpool_worker.commands.scenes import scene
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store.reports.batches import parts, request_states

    check_tables()
    with read() as connection:
        found = _find(connection, batch)
        around = scene(connection)
        split, states = parts(connection, found.id), request_states(connection, found.id)
    facts: dict[str, Any] = batch_tables.facts(found, around) | {"request_states": states}
    if as_json:
        typer.echo(json.dumps(facts | {"story": batch_tables.story(found, split)}))
    else:
        batch_tables.show_story(facts, batch_tables.story(found, split))


def _find(connection: sa.Connection, named: str) -> Batch:
    from carpool_worker.store.reports.batches import find
    from carpool_worker.store.reports.ids import batches_like

    found = find(connection, the_one("batch", named, batches_like(connection, named, LIKE)))
    assert found is not None  # noqa: S101 - its id has just been read in this transaction
    return found
