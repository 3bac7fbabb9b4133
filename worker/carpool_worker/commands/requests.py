"""`carpool requests`: the requests, and the whole story of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import (
    After,
    Before,
    Content,
    Json,
    JsonObject,
    Limit,
    OfBatch,
    OfClient,
    OfModel,
    RequestId,
    Since,
)
from carpool_worker.commands.paging import hint, only_one
from carpool_worker.commands.tables import print_json, print_json_object
from carpool_worker.states import RequestState

if TYPE_CHECKING:
    from carpool_worker.views.requests import RequestFilter, RequestView

app = typer.Typer(rich_markup_mode="markdown")

State = Annotated[
    RequestState | None, typer.Option("--state", help="Only those in this state.", show_default="all")
]

Tag = Annotated[
    str | None, typer.Option("--tag", help="Only those with this tag of their client's.", show_default="all")
]
ErrorType = Annotated[
    str | None,
    typer.Option(
        "--error", metavar="TYPE", help="Only those that failed with this type of error.", show_default="all"
    ),
]


@app.callback(invoke_without_command=True)
def requests(
    context: typer.Context,
    state: State = None,
    client: OfClient = None,
    model: OfModel = None,
    batch: OfBatch = None,
    tag: Tag = None,
    error: ErrorType = None,
    since: Since = None,
    limit: Limit = 20,
    before: Before = None,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List requests in the order in which they were batched.

    The newest come last; --before and --after lead to other pages. Requests still in the inbox are not among them: a
    worker takes them within a second. Examples:

        carpool requests --client billing --since 2h
        carpool requests --tag invoice-4711
        carpool requests --error invalid_request_error --limit 100 --json | jq -r .id
        carpool requests show 01a2030b867d76f3
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.views.requests import RequestFilter

    only_one(before, after)
    wanted = RequestFilter(
        state=state, client=client, model=model, batch=batch, tag=tag, error=error, since=since
    )
    found = _page(wanted, limit, before, after)
    if as_json:
        print_json(found)
        return
    _show_table(found)
    if after is None:
        hint("requests", [one.id for one in found], limit)


@app.command()
def show(request: RequestId, content: Content = False, as_json: JsonObject = False) -> None:
    """Show what happened to one request, in order of time: its batch, its answer, each try to deliver that.

    Prompts and answers are shown only with --content. Of an earlier attempt only its number is known.
    """
    from carpool_worker.commands.request_tables import show_details
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.views.requests import find

    check_tables()
    with read() as connection:
        found = find(connection, settings(), request, contents=content)
    if as_json:
        print_json_object(found)
    else:
        show_details(found)


def _show_table(found: Sequence[RequestView]) -> None:
    from carpool_worker.commands.request_tables import show_table
    from carpool_worker.database import now

    show_table(found, now())


def _page(wanted: RequestFilter, limit: int, before: str | None, after: str | None) -> Sequence[RequestView]:
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.views.requests import page

    check_tables()
    with read() as connection:
        return page(connection, settings(), wanted, limit, before, after)
