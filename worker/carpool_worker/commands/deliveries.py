"""`carpool deliveries`: answers on their way to callbacks, and those that were given up on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import After, Before, Json, Limit, OfClient, RequestId, Since
from carpool_worker.commands.paging import hint, only_one
from carpool_worker.commands.replay import replay
from carpool_worker.commands.tables import ABSENT, print_json, print_table, time_or_absent
from carpool_worker.states import DeliveryState

if TYPE_CHECKING:
    from carpool_worker.views.deliveries import DeliveryDetails, DeliveryFilter, DeliveryView, EndpointView

app = typer.Typer(rich_markup_mode="markdown")
app.command()(replay)

State = Annotated[
    DeliveryState | None, typer.Option("--state", help="Only those in this state.", show_default="all")
]
Target = Annotated[
    str | None, typer.Option("--target", help="Only those to this URL or task.", show_default="all")
]


@app.callback(invoke_without_command=True)
def deliveries(
    context: typer.Context,
    state: State = None,
    client: OfClient = None,
    target: Target = None,
    since: Since = None,
    limit: Limit = 50,
    before: Before = None,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List answers on their way to webhooks and tasks, newest last.

    A delivery that failed is **retryable**: it is tried again by the schedule in `webhook_schedule`. One that was given
    up on is **discarded**, and kept as a dead letter, to be replayed once its receiver works again. Examples:

        carpool deliveries --state discarded
        carpool deliveries show 019a7f3c2b1e7d0f8a4b5c6d7e8f9a0b
        carpool deliveries replay --endpoint https://billing.example.com/claude
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.views.deliveries import DeliveryFilter

    only_one(before, after)
    wanted = DeliveryFilter(state=state, client=client, target=target, changed_since=since)
    found = _page(wanted, limit, before, after)
    if as_json:
        print_json(found)
        return
    _show_table(found)
    if after is None:
        hint("deliveries", [one.request_id for one in found], limit)


@app.command()
def show(request: RequestId, as_json: Json = False) -> None:
    """Show one delivery, and each try: when, how long it took, the status, and the error or the answer's start."""
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views.deliveries import find

    check_tables()
    with read() as connection:
        found = find(connection, request)
    if as_json:
        print_json([found])
    else:
        _show_details(found)


@app.command()
def endpoints(as_json: Json = False) -> None:
    """List the receivers that fail, and the webhook URLs that were stopped: by a 410, or after `webhook_stop_days`.

    A queue of tasks, `queue:NAME`, fails if the broker does not take its messages.

    A stopped one gets nothing until it is started again: `carpool deliveries replay --endpoint URL`.
    """
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views.deliveries import failing_endpoints

    check_tables()
    with read() as connection:
        found = failing_endpoints(connection)
    if as_json:
        print_json(found)
    else:
        _show_endpoints(found)


def _page(
    wanted: DeliveryFilter, limit: int, before: str | None, after: str | None
) -> Sequence[DeliveryView]:
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views.deliveries import page

    check_tables()
    with read() as connection:
        return page(connection, wanted, limit, before, after)


def _show_table(found: Sequence[DeliveryView]) -> None:
    if not found:
        typer.echo("No deliveries found.")
        return
    columns = ("Request", "State", "Tries", "To, and the last error")
    lines = [
        [one.request_id, one.state, str(one.attempt), _below(one.target, one.last_error)] for one in found
    ]
    print_table(columns, lines)


def _show_endpoints(found: Sequence[EndpointView]) -> None:
    if not found:
        typer.echo("No receiver fails.")
        return
    columns = ("Failing since", "Stopped", "Dead letters", "URL or queue, and why it was stopped")
    lines = [
        [
            time_or_absent(one.failing_since),
            time_or_absent(one.stopped_at),
            f"{one.dead_letters:,}",
            _below(one.url, one.reason),
        ]
        for one in found
    ]
    print_table(columns, lines)


def _show_details(delivery: DeliveryDetails) -> None:
    from carpool_worker.views.encoding import plain

    facts = plain(delivery)
    tries = facts.pop("tries")
    for name, fact in facts.items():
        typer.echo(f"{name:10}  {ABSENT if fact is None else fact}")
    columns = ("Try", "At", "ms", "Status", "Error, or the answer's start")
    lines = [[ABSENT if fact is None else str(fact) for fact in one.values()] for one in tries]
    print_table(columns, lines)


def _below(target: str, why: str | None) -> str:
    return f"{target}\n{why}" if why else target
