"""`carpool requests`: the requests, and the whole story of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.completion import complete_batch, complete_request
from carpool_worker.commands.paging import LIKE, After, Before, Json, Limit, hint, only_one, the_one
from carpool_worker.commands.tables import print_json
from carpool_worker.commands.times import Since
from carpool_worker.states import RequestState

if TYPE_CHECKING:
    import sqlalchemy as sa

    from carpool_worker.models import Request

app = typer.Typer(rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def requests(
    context: typer.Context,
    state: Annotated[
        RequestState | None, typer.Option(help="Only those in this state.", show_default="all")
    ] = None,
    client: Annotated[str | None, typer.Option(help="Only this client's.", show_default="all")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model.", show_default="all")] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="Only those in this batch.", show_default="all", autocompletion=complete_batch),
    ] = None,
    since: Since = None,
    limit: Limit = 20,
    before: Before = None,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List requests in the order in which they were batched, the newest last.

    What is still in the inbox is not among them: a worker takes it within a second. Examples:

        carpool requests --client billing --since 2h
        carpool requests --state discarded --limit 100 --json | jq -r .id
        carpool requests show 01a2030b867d76f3
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.commands import request_tables
    from carpool_worker.database import now, read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.store.reports.requests import Filter, page

    only_one(before, after)
    check_tables()
    limits = settings().limits
    with read() as connection:
        named = _batch(connection, batch) if batch else None
        wanted = Filter(state, client, model, named, since, limits.longest_open(now()))
        ends = [_find(connection, one) if one else None for one in (before, after)]
        found = page(connection, wanted, limit, *ends)
    if as_json:
        print_json([request_tables.facts(one) for one in found])
        return
    request_tables.show_table(found, now())
    if after is None:
        hint("requests", [one.id for one in found], limit)


@app.command()
def show(
    request: Annotated[
        str, typer.Argument(help="A request's id, or its beginning.", autocompletion=complete_request)
    ],
    content: Annotated[
        bool, typer.Option("--content", help="What it says and was answered too, and its metadata.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell one request's story in order of time: each step of its batch, its answer, each try to deliver that.

    Prompts and answers are shown with --content alone. Of an earlier attempt only its number is known.
    """
    from carpool_worker.commands import request_tables
    from carpool_worker.commands.scenes import scene
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.store.batches import rows as batches
    from carpool_worker.store.deliveries import dead_letters
    from carpool_worker.store.reports import requests as request_views
    from carpool_worker.views import budgets
    from carpool_worker.views.wait_reasons import waits_for

    check_tables()
    with read() as connection:
        found = _find(connection, request)
        batch = batches.get(connection, found.batch_id)
        delivery = request_views.delivery(connection, found.id)
        story = request_tables.story(found, batch, delivery, dead_letters.tries(connection, found.id))
        facts = request_tables.facts(found) | request_tables.circumstances(found, delivery)
        if batch and found.state is RequestState.BATCHED:
            facts["waiting_for"] = waits_for(batch, scene(connection))
        if found.held_at:
            facts["waiting_for"] = budgets.waiting_for(connection, found)
        if content:
            facts |= request_tables.words(found, request_views.contents(connection, found.id))
    if as_json:
        typer.echo(json.dumps(facts | {"story": story}))
    else:
        request_tables.show_story(facts, story)


def _find(connection: sa.Connection, named: str) -> Request:
    from carpool_worker.store.reports.ids import requests_like
    from carpool_worker.store.reports.requests import get

    return get(connection, the_one("request", named, requests_like(connection, named, LIKE)))


def _batch(connection: sa.Connection, named: str) -> str:
    from carpool_worker.store.reports.ids import batches_like

    return the_one("batch", named, batches_like(connection, named, LIKE))
