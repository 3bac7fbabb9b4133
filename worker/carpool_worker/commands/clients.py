"""`carpool clients`: the services that enqueue requests, what each has waiting and what it has used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carpool_worker.commands.completion import complete_client
from carpool_worker.commands.paging import Json
from carpool_worker.commands.tables import print_json, print_table
from carpool_worker.commands.times import Since
from carpool_worker.exceptions import WorkerError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from carpool_worker.store.usage import Used

app = typer.Typer(rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def clients(context: typer.Context, since: Since = None, as_json: Json = False) -> None:
    """List the clients: what each has waiting, and what it has used, the dearest last.

    Held is what of the waiting has no room in its client's budget (the setting budgets).
    A client is the service that a producer names: Producer(client="billing"). Answers are counted by whole days (UTC).

        carpool clients
        carpool clients --since 7d --json | jq 'select(.waiting > 10000) | .client'
        carpool clients show billing
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store import usage
    from carpool_worker.store.reports import clients as client_views
    from carpool_worker.store.requests import reservations

    check_tables()
    with read() as connection:
        waiting = client_views.waiting(connection)
        held = reservations.count_held(connection)
        used = {row.client: row for row in usage.totals(connection, ["client"], _day(since))}
    rows = [
        _facts(client, used.get(client), waiting.get(client, 0)) | {"held": held.get(client, 0)}
        for client in {*used, *waiting}
    ]
    rows.sort(key=lambda row: (row["cost"] or 0, row["answered"], row["waiting"], row["client"]))
    if as_json:
        print_json([_plain(row) for row in rows])
    elif rows:
        columns = ("Waiting", *(["Held"] if held else []), "Answered", "Cost", "Saved", "Client")
        print_table(columns, [_line(row, held=bool(held)) for row in rows], whole=len(columns) - 1)
    else:
        typer.echo("No client yet.")


@app.command()
def show(
    client: Annotated[
        str, typer.Argument(help="The client, as its producer names it.", autocompletion=complete_client)
    ],
    since: Since = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show where one client's requests wait, its budget, what it has used of each model, and its dead letters."""
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store import usage
    from carpool_worker.store.reports import clients as client_views
    from carpool_worker.views import budgets

    check_tables()
    with read() as connection:
        _check_known(connection, client)
        waiting = client_views.waiting_by_state(connection, client)
        models = usage.totals(connection, ["model"], _day(since), None, client)
        dead = client_views.dead_letters(connection, client)
        standing = budgets.balance_of(connection, client)
    if as_json:
        used = [_plain(_money(row) | {"model": row.model, "answered": row.requests}) for row in models]
        facts = {"client": client, "waiting": waiting, "dead_letters": dead, "models": used}
        budget = budgets.facts(standing) if standing else None
        typer.echo(json.dumps(facts | {"budget": budget}))
    else:
        _tell(client, waiting, dead, models, budgets.line(standing) if standing else None)


def _tell(
    client: str, waiting: dict[str, int], dead: int, models: Sequence[Used], budget: str | None
) -> None:
    where = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in waiting.items())
    typer.echo(f"{client}\nwaiting: {where or 'nothing'}\ndead letters: {dead:,}")
    if budget:
        typer.echo(f"budget: {budget}")
    if models:
        lines = [_line(_money(row) | {"answered": row.requests}, row.model) for row in models]
        print_table(("Answered", "Cost", "Saved", "Model"), lines, whole=3)


def _check_known(connection: sa.Connection, client: str) -> None:
    from carpool_worker.store.reports.clients import is_known

    if not is_known(connection, client):
        raise WorkerError(f"there is no client {client!r}: carpool clients lists them")


def _facts(client: str, used: Used | None, waiting: int) -> dict[str, Any]:
    answered = used.requests if used else 0
    return {"client": client, "waiting": waiting, "answered": answered} | _money(used)


def _money(used: Used | None) -> dict[str, Any]:
    if used is None or not used.is_priced:
        return {"cost": None, "saved": None}
    return {"cost": used.cost, "saved": used.saved}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    from carpool_worker.formatting import exact

    money = {name: None if row[name] is None else str(exact(row[name])) for name in ("cost", "saved")}
    return row | money


def _line(row: dict[str, Any], name: str | None = None, *, held: bool = False) -> list[str]:
    from carpool_worker.formatting import money

    shown = ("waiting", "held", "answered") if held else ("waiting", "answered")
    counts = [f"{row[count]:,}" for count in shown if count in row]
    amounts = ["-" if row[amount] is None else money(row[amount]) for amount in ("cost", "saved")]
    return [*counts, *amounts, name or row["client"]]


def _day(since: int | None) -> str | None:
    return None if since is None else datetime.fromtimestamp(since / 1_000, UTC).date().isoformat()
