"""`carpool lanes`, `flush`, `pause` and `resume`: the lanes, and what an operator does with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from carpool_worker.commands.completion import complete_lane
from carpool_worker.commands.tables import print_json, print_table, time_of
from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import age, counted

if TYPE_CHECKING:
    import sqlalchemy as sa

    from carpool_worker.store.reports.lanes import LaneView

NO_REASON = "no reason given"

Lanes = Annotated[
    list[str],
    typer.Argument(
        metavar="LANE", help="Lanes, as `carpool lanes` names them.", autocompletion=complete_lane
    ),
]


def lanes(as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False) -> None:
    """List the lanes that have work, or are paused.

    Requests of one model and with the same per-batch headers are a lane: they may share a batch. A lane is paused by
    Carpool itself where an operator has to mend something first (the key, the account, its limit); then one batch at a
    time asks whether it is over. Or it is paused by an operator: `carpool pause`.

        carpool lanes
        carpool lanes --json | jq 'select(.paused) | .lane'
    """
    from carpool_worker.database import now, read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store.reports.lanes import active

    check_tables()
    with read() as connection:
        found = active(connection)
    if as_json:
        print_json([_facts(one) for one in found])
    elif found:
        columns = ("Open", "since", "Sealed", "At Anthropic", "Lane, and why it is paused")
        print_table(columns, [_line(one, now()) for one in found], whole=4)
    else:
        typer.echo("No lane has work, and none is paused.")


def flush(
    lane: Annotated[
        str | None,
        typer.Option(help="Only this lane's.", show_default="all", autocompletion=complete_lane),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model.", show_default="all")] = None,
    at_once: Annotated[
        bool,
        typer.Option("--now", help="Let all that is sealed go now, although submit_windows are closed."),
    ] = False,
) -> None:
    """Seal the open batches now: they go as they are, without waiting for more requests.

    They go when the next of submit_windows opens; with --now they wait for none, and nor does what was sealed before.
    What is still in the inbox is not among them: a worker takes it within a second. Examples, at the end of a day:

        carpool flush
        carpool flush --model claude-haiku-4-5
        carpool flush --now
    """
    from carpool_worker.app import app
    from carpool_worker.database import engine, now, write
    from carpool_worker.flower import events
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store.batches import filling
    from carpool_worker.store.batches import queue as batch_queue
    from carpool_worker.store.batches import rows as batches

    check_tables()
    with write() as connection:
        sealed = filling.seal_opened_before(connection, now(), now(), lane, model)
        found = filter(None, [batches.get(connection, batch_id) for batch_id in sealed])
        expedited = batch_queue.expedite(connection, now(), lane, model) if at_once else 0
    events.publish(app, engine(), sealed)
    for batch in found:
        typer.echo(f"{batch.id}  {counted(batch.request_count, 'request')}  {batch.lane}")
    typer.echo(f"{counted(len(sealed), 'batch', 'batches')} sealed.")
    if at_once:
        typer.echo(f"Held by no window any more: {counted(expedited, 'batch', 'batches')}.")


def pause(
    lanes: Lanes,
    reason: Annotated[str, typer.Option(help="Why, for those who see it later.")] = NO_REASON,
) -> None:
    """Submit nothing from lanes until they are resumed.

    Requests are taken and pooled as ever, and what is at Anthropic comes back; what is sealed waits. Nothing is asked
    meanwhile, and no success of a batch that was posted before ends it. Example:

        carpool pause claude-opus-4-5 --reason "over budget until Monday"
        carpool resume claude-opus-4-5
    """
    from carpool_worker.database import now, write
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store.batches import lane_pauses

    check_tables()
    with write() as connection:
        for lane in lanes:
            _check_known(connection, lane)
            lane_pauses.pause_by_operator(connection, lane, reason, now())
    for lane in lanes:
        typer.echo(f"Paused: {lane}")


def resume(lanes: Lanes) -> None:
    """Submit from paused lanes again, whether an operator paused them or Carpool did.

    A lane that Carpool paused, and whose trouble is not over, is paused again by its next batch. Example:

        carpool resume claude-opus-4-5
    """
    from carpool_worker.database import write
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store.batches import lane_pauses

    check_tables()
    with write() as connection:
        for lane in lanes:
            if lane_pauses.resume(connection, lane):
                typer.echo(f"Resumed: {lane}")
            else:
                _check_known(connection, lane)
                typer.echo(f"It was not paused: {lane}")


def _check_known(connection: sa.Connection, lane: str) -> None:
    from carpool_worker.store.reports.lanes import active, is_known

    if not is_known(connection, lane):
        names = ", ".join(repr(one.lane) for one in active(connection))
        raise WorkerError(f"there is no lane {lane!r}; those with work are {names or 'none'}")


def _facts(view: LaneView) -> dict[str, Any]:
    return {
        "lane": view.lane,
        "paused": view.pause is not None,
        "paused_by_operator": bool(view.pause and view.pause.by_operator),
        "reason": view.pause.reason if view.pause else None,
        "paused_at": time_of(view.pause.paused_at) if view.pause else None,
        "open_requests": view.open_requests,
        "opened_at": time_of(view.opened_at),
        "sealed_batches": view.sealed_batches,
        "sealed_requests": view.sealed_requests,
        "out_requests": view.out_requests,
    }


def _line(view: LaneView, now: int) -> list[str]:
    opened = age(now - view.opened_at) if view.opened_at else "-"
    sealed = f"{view.sealed_requests:,} in {view.sealed_batches:,}" if view.sealed_batches else "0"
    return [f"{view.open_requests:,}", opened, sealed, f"{view.out_requests:,}", _name(view)]


def _name(view: LaneView) -> str:
    if view.pause is None:
        return view.lane
    by = "paused by an operator" if view.pause.by_operator else "paused"
    return f"{view.lane}\n{by}: {view.pause.reason}"
