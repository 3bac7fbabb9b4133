"""`carpool clients`: the services that enqueue requests, what each has waiting and what it has used."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import typer

from carpool_worker.commands.options import ClientName, Json, JsonObject, Since
from carpool_worker.commands.tables import ABSENT, print_json, print_json_object, print_table

if TYPE_CHECKING:
    from carpool_worker.views.clients import ClientDetails, ClientView

app = typer.Typer(rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def clients(context: typer.Context, since: Since = None, as_json: Json = False) -> None:
    """List the clients: what each has waiting, and what it has used; most expensive last.

    A client is the service that a producer names: Producer(client="billing"). Held are those of its waiting requests
    that have no room in its budget (the setting `budgets`). Answers are counted by whole days (UTC). Examples:

        carpool clients
        carpool clients --since 7d --json | jq 'select(.waiting > 10000) | .client'
        carpool clients show billing
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views.clients import active

    check_tables()
    with read() as connection:
        found = active(connection, since)
    if as_json:
        print_json(found)
    elif found:
        _show_table(found)
    else:
        typer.echo("No client yet.")


@app.command()
def show(client: ClientName, since: Since = None, as_json: JsonObject = False) -> None:
    """Show where one client's requests wait, its budget, what it has used of each model, and its dead letters."""
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.views.clients import find

    check_tables()
    with read() as connection:
        found = find(connection, settings(), client, since)
    if as_json:
        print_json_object(found)
    else:
        _show_details(found)


def _show_table(found: Sequence[ClientView]) -> None:
    any_held = any(one.held for one in found)
    columns = ("Waiting", *(["Held"] if any_held else []), "Answered", "Cost", "Saved", "Client")
    lines = []
    for one in found:
        counts = [one.waiting, *([one.held] if any_held else []), one.answered]
        lines.append([*(f"{count:,}" for count in counts), _money(one.cost), _money(one.saved), one.client])
    print_table(columns, lines, whole=len(columns) - 1)


def _show_details(client: ClientDetails) -> None:
    where = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in client.waiting.items())
    typer.echo(f"{client.client}\nwaiting: {where or 'nothing'}\ndead letters: {client.dead_letters:,}")
    if client.budget:
        typer.echo(f"budget: {client.budget}")
    if client.models:
        lines = [
            [f"{one.answered:,}", _money(one.cost), _money(one.saved), one.model] for one in client.models
        ]
        print_table(("Answered", "Cost", "Saved", "Model"), lines, whole=3)


def _money(amount: Decimal | None) -> str:
    from carpool_worker.formatting import dollars

    return ABSENT if amount is None else dollars(amount)
