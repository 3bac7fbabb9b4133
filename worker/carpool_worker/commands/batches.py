"""`carpool batches`: the batches, what each waits for, and the whole story of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carpool_worker.exceptions import WorkerError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from carpool_worker.models import Batch
    from carpool_worker.states import BatchState
    from carpool_worker.waiting import Scene

app = typer.Typer(rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def batches(
    context: typer.Context,
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only batches in this state; may be repeated.", show_default="all"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only batches of this model.", show_default="all")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    before: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Older ones than this batch: the page before.", show_default="now"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """List the batches, the newest last, and say what each waits for.

    A batch waits for more requests, for room in the account's queue, for a paused lane, for Anthropic, or, where the
    answer to its post was lost, for Anthropic's list to show whether it was made. Times are UTC. Examples:

    carpool batches
    carpool batches --state sealed --state submitting
    carpool batches --model claude-haiku-4-5 --limit 100 --json | jq .waiting_for
    carpool batches show 01a2030b867d76f384b2c810994db967
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.commands import batch_views
    from carpool_worker.database import read
    from carpool_worker.preflight import check_tables
    from carpool_worker.store.batch_views import page

    states = [_state(name) for name in state or ()]
    check_tables()
    with read() as connection:
        found = page(connection, limit, states, model, before)
        scene = _scene(connection)
    if as_json:
        for batch in found:
            typer.echo(json.dumps(batch_views.facts(batch, scene)))
    else:
        batch_views.show_table(found, scene, limit)


@app.command()
def show(
    batch: Annotated[str, typer.Argument(help="A batch's id, or Anthropic's (msgbatch_…).")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell one batch's story in order of time, what it waits for, and how its requests stand."""
    from carpool_worker.commands import batch_views
    from carpool_worker.database import read
    from carpool_worker.preflight import check_tables
    from carpool_worker.store.batch_views import parts, request_states

    check_tables()
    with read() as connection:
        found = _find(connection, batch)
        scene = _scene(connection)
        split, states = parts(connection, found.id), request_states(connection, found.id)
    facts: dict[str, Any] = batch_views.facts(found, scene) | {"request_states": states}
    if as_json:
        typer.echo(json.dumps(facts | {"story": batch_views.story(found, split)}))
    else:
        batch_views.show_story(facts, batch_views.story(found, split))


def _state(name: str) -> BatchState:
    from carpool_worker.states import BatchState

    try:
        return BatchState(name)
    except ValueError:
        raise WorkerError(f"--state {name}: one of {', '.join(BatchState)}") from None


def _find(connection: sa.Connection, named: str) -> Batch:
    from carpool_worker.store.batch_views import find

    found = find(connection, named)
    if found is None:
        raise WorkerError(f"there is no batch {named}")
    return found


def _scene(connection: sa.Connection) -> Scene:
    from carpool_worker.admission import admitted
    from carpool_worker.database import now
    from carpool_worker.lanes import Limits
    from carpool_worker.patience import Patience
    from carpool_worker.settings import settings
    from carpool_worker.store import batches, lane_pauses
    from carpool_worker.waiting import Scene

    at, one = now(), settings()
    return Scene(
        at=at,
        limits=Limits(min(one.flush_count, one.queue_limit), one.flush_bytes, one.flush_interval),
        patience=Patience(one.submit_timeout, one.settle_interval),
        queue_limit=one.queue_limit,
        queued=batches.queued(connection),
        pauses=lane_pauses.by_lane(connection),
        admitted=admitted(connection, at, one.queue_limit),
    )
