"""`carpool lanes`, `flush`, `pause` and `resume`: the lanes, and what an operator does with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import Json, Lanes, OfLane, OfModel, actor
from carpool_worker.commands.tables import ABSENT, print_json, print_table
from carpool_worker.formatting import age, counted

if TYPE_CHECKING:
    from carpool_worker.views.lanes import LaneView

NO_REASON = "no reason given"

Every = Annotated[bool, typer.Option("--all", help="Those without work, too, that had some lately.")]
Now = Annotated[
    bool,
    typer.Option("--now", help="Let everything that is sealed go now, even if submit_windows are closed."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who see it later.")]


def lanes(every: Every = False, as_json: Json = False) -> None:
    """List the lanes that have work, or are paused.

    A lane is all requests that may share a batch: those of one model with the same per-batch headers. Carpool pauses a
    lane by itself if an operator has to put something right first (the key, the account, its limit); then one batch at
    a time probes whether that is done. An operator pauses a lane with `carpool pause`. Examples:

        carpool lanes
        carpool lanes --all
        carpool lanes --json | jq 'select(.paused) | .lane'
    """
    from carpool_worker.database import now, read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views import lanes as views

    check_tables()
    with read() as connection:
        found = views.every(connection) if every else views.active(connection)
    if as_json:
        print_json(found)
    elif found:
        columns = ("Open", "since", "Sealed", "At Anthropic", "Lane, and why it is paused")
        print_table(columns, [_line(one, now()) for one in found])
    else:
        typer.echo("No batch has been made yet." if every else "No lane has work, and none is paused.")


def flush(lane: OfLane = None, model: OfModel = None, at_once: Now = False) -> None:
    """Seal the open batches now: they go as they are, without waiting for more requests.

    They go when the next of submit_windows opens. With --now they don't wait for one, and nor do batches that were
    sealed before. Requests still in the inbox are not among them: a worker takes those within a second. Examples, at
    the end of a day:

        carpool flush
        carpool flush --model claude-haiku-4-5
        carpool flush --now
    """
    from carpool_worker.app import app
    from carpool_worker.database import engine
    from carpool_worker.operations import lanes as operation
    from carpool_worker.processes.preflight import check_tables

    check_tables()
    flushed = operation.flush(engine(), app, lane, model, ignore_windows=at_once, actor=actor())
    for batch in flushed.batches:
        typer.echo(f"{batch.id}  {counted(batch.requests, 'request')}  {batch.lane}")
    typer.echo(f"{counted(len(flushed.batches), 'batch', 'batches')} sealed.")
    if at_once:
        typer.echo(f"No longer waiting for a window: {counted(flushed.expedited, 'batch', 'batches')}.")


def pause(lanes: Lanes, reason: Reason = NO_REASON) -> None:
    """Submit nothing from lanes until they are resumed.

    Their requests are still taken and pooled, and what is at Anthropic still comes back; sealed batches wait. Nothing
    but `carpool resume` ends the pause: no batch probes the lane meanwhile. Examples:

        carpool pause claude-opus-4-5 --reason "over budget until Monday"
        carpool resume claude-opus-4-5
    """
    from carpool_worker.app import app
    from carpool_worker.database import engine
    from carpool_worker.operations import lanes as operation
    from carpool_worker.processes.preflight import check_tables

    check_tables()
    operation.pause(engine(), lanes, reason, actor=actor(), app=app)
    for lane in lanes:
        typer.echo(f"Paused: {lane}")


def resume(lanes: Lanes) -> None:
    """Submit from paused lanes again, whether an operator paused them or Carpool did.

    If it was Carpool that paused a lane, and what was wrong still is, then the next batch pauses it again. Put that
    right first. Example:

        carpool resume claude-opus-4-5
    """
    from carpool_worker.app import app
    from carpool_worker.database import engine
    from carpool_worker.operations import lanes as operation
    from carpool_worker.processes.preflight import check_tables

    check_tables()
    resumed = operation.resume(engine(), lanes, actor=actor(), app=app)
    for lane in lanes:
        typer.echo(f"Resumed: {lane}" if lane in resumed else f"It was not paused: {lane}")


def _line(view: LaneView, now: int) -> list[str]:
    opened = age(now - view.opened_at) if view.opened_at else ABSENT
    sealed = f"{view.sealed_requests:,} in {view.sealed_batches:,}" if view.sealed_batches else "0"
    return [f"{view.open_requests:,}", opened, sealed, f"{view.out_requests:,}", _name(view)]


def _name(view: LaneView) -> str:
    if not view.paused:
        return view.lane
    by = "paused by an operator" if view.paused_by_operator else "paused"
    return f"{view.lane}\n{by}: {view.reason}"
