"""Batches as `carpool batches` lays them out: as a table, and one as a story."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carpool_worker.commands.tables import print_story
from carpool_worker.formatting import age, contents, outcome
from carpool_worker.policies.accounts import DEFAULT
from carpool_worker.units import SECOND
from carpool_worker.views.batches import BatchDetails, BatchView

ID_WIDTH = 32
"""Characters of an id: it is never cut."""


def show_table(found: Sequence[BatchView]) -> None:
    """Print the batches, newest last."""
    if not found:
        typer.echo("No batches found.")
        return
    table = Table(show_lines=True)
    table.add_column("Batch, model", width=ID_WIDTH, overflow="fold")
    table.add_column("State, age")
    table.add_column("Waiting for", overflow="fold")
    for batch in found:
        how = (
            batch.waiting_for
            or outcome(batch.outcomes, batch.cost, batch.list_price)
            or batch.last_error
            or "nothing was sent"
        )
        table.add_row(
            Text(f"{batch.id}\n{batch.model}{_account(batch)}"),
            Text(f"{batch.state}\n{age(batch.age * SECOND)}"),
            Text(f"{contents(batch.requests, batch.bytes)}\n{how}"),
        )
    Console().print(table)


def show_details(batch: BatchDetails) -> None:
    """Print one batch: its story, what it waits for, and how its requests stand."""
    typer.echo(f"{batch.id}  {batch.model}{_account(batch)}  {batch.state}")
    print_story(batch.story)
    if batch.waiting_for:
        typer.echo(f"waiting for: {batch.waiting_for}")
    if batch.last_error:
        typer.echo(f"last error: {batch.last_error}")
    if batch.clients:
        clients = sorted(batch.clients.items(), key=lambda one: -one[1])
        typer.echo(f"of clients: {', '.join(f'{count:,} of {client}' for client, count in clients)}")
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(batch.request_states.items()))
    typer.echo(f"requests in it: {states or 'none'}")


def _account(batch: BatchView) -> str:
    return "" if batch.account == DEFAULT else f" ({batch.account})"
