"""`carpool deliveries`: answers on their way to callbacks, and those that were given up on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from carpool_worker.commands.completion import complete_request
from carpool_worker.commands.paging import LIKE, After, Before, Json, Limit, hint, only_one, the_one
from carpool_worker.commands.replay import replay
from carpool_worker.commands.tables import print_json, print_table, time_of
from carpool_worker.commands.times import Since
from carpool_worker.exceptions import WorkerError
from carpool_worker.states import DeliveryState

if TYPE_CHECKING:
    import sqlalchemy as sa

app = typer.Typer(rich_markup_mode="markdown")
app.command()(replay)

State = Annotated[DeliveryState | None, typer.Option(help="Only those in this state.", show_default=False)]
Client = Annotated[str | None, typer.Option(help="Only those of this client.", show_default=False)]


@app.callback(invoke_without_command=True)
def deliveries(
    context: typer.Context,
    state: State = None,
    client: Client = None,
    target: Annotated[
        str | None, typer.Option(help="Only those to this URL or task.", show_default=False)
    ] = None,
    since: Since = None,
    limit: Limit = 50,
    before: Before = None,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List answers on their way to webhooks and tasks, newest last.

    A delivery that failed is **retryable**, by the schedule of webhook_schedule; one that was given up on is
    **discarded** and kept, to be replayed once its receiver works again. Example:

        carpool deliveries --state discarded
        carpool deliveries show 019a7f3c2b1e7d0f8a4b5c6d7e8f9a0b
        carpool deliveries replay --endpoint https://billing.example.com/claude
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.database import read
    from carpool_worker.store.deliveries.dead_letters import Filter, listed

    only_one(before, after)
    _check_tables()
    with read() as connection:
        ends = [_find(connection, one) if one else None for one in (before, after)]
        wanted = Filter(state=state, client=client, target=target, changed_since=since)
        found = listed(connection, wanted, limit, *ends)
    rows = [one._asdict() | {"state": one.state.value, "due_at": time_of(one.due_at)} for one in found]
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("No such deliveries.")
        return
    columns = ("Request", "State", "Tries", "To, and the last error")
    lines = [[row["request_id"], row["state"], str(row["attempt"]), _line(row)] for row in rows]
    print_table(columns, lines, whole=2)
    if after is None:
        hint("deliveries", [one.request_id for one in found], limit)


@app.command()
def show(
    request: Annotated[
        str, typer.Argument(help="The request's id, or its beginning.", autocompletion=complete_request)
    ],
    as_json: Json = False,
) -> None:
    """Show one delivery, and each try: when, how long, the status, and the error or the start of the answer."""
    from carpool_worker.database import read
    from carpool_worker.store.deliveries.dead_letters import Filter, listed, tries

    _check_tables()
    with read() as connection:
        request_id = _find(connection, request)
        found = listed(connection, Filter(ids=[request_id]), 1)
        rows = [one._asdict() | {"at": time_of(one.at)} for one in tries(connection, request_id)]
    facts = found[0]._asdict() | {"state": found[0].state.value, "due_at": time_of(found[0].due_at)}
    if as_json:
        print_json([facts | {"tries": rows}])
        return
    for name, fact in facts.items():
        typer.echo(f"{name:10}  {fact if fact is not None else '-'}")
    columns = ("Try", "At", "ms", "Status", "Error, or start of the answer")
    lines = [["-" if fact is None else str(fact) for fact in row.values()] for row in rows]
    print_table(columns, lines, whole=4)


@app.command()
def endpoints(as_json: Json = False) -> None:
    """List webhook URLs that fail, and those that were stopped: by 410, or after webhook_stop_days.

    A stopped one gets nothing until it is started again: `carpool deliveries replay --endpoint URL`.
    """
    from carpool_worker.database import read
    from carpool_worker.store.deliveries.dead_letters import counted_by_target
    from carpool_worker.store.deliveries.endpoints import troubles

    _check_tables()
    with read() as connection:
        found, dead = troubles(connection), counted_by_target(connection)
    rows = [
        one._asdict()
        | {"failing_since": time_of(one.failing_since), "stopped_at": time_of(one.stopped_at)}
        | {"dead_letters": dead.get(one.url, 0)}
        for one in found
    ]
    if as_json:
        print_json(rows)
    elif rows:
        columns = ("Failing since", "Stopped", "Dead letters", "URL, and why it was stopped")
        lines = [
            [row["failing_since"] or "-", row["stopped_at"] or "-", f"{row['dead_letters']:,}", _why(row)]
            for row in rows
        ]
        print_table(columns, lines, whole=0)
    else:
        typer.echo("No webhook fails.")


def _find(connection: sa.Connection, named: str) -> str:
    from carpool_worker.store.reports.ids import deliveries_like

    found = deliveries_like(connection, named, LIKE)
    if not found:
        raise WorkerError(f"no delivery of a request {named}: it has no callback, or has not ended")
    return the_one("delivery", named, found)


def _check_tables() -> None:
    from carpool_worker.processes import preflight

    preflight.check_tables()


def _line(row: dict[str, Any]) -> str:
    return f"{row['target']}\n{row['last_error'] or ''}".rstrip()


def _why(row: dict[str, Any]) -> str:
    return f"{row['url']}\n{row['reason'] or ''}".rstrip()
