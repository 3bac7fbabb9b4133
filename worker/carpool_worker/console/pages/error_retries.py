"""Retry a group of errors: first a page that says what it costs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from aiohttp import web

from carpool_worker.console import filters
from carpool_worker.console.command_lines import command_line
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter
from carpool_worker.console.retry_prices import priced
from carpool_worker.console.users import Role
from carpool_worker.formatting import counted
from carpool_worker.operations import retry
from carpool_worker.operations.retry import DiscardedFilter, Estimate

FILTERS = {"error": filters.text, "model": filters.text, "client": filters.text, "since": filters.since}


async def ask(page: PageCall) -> web.StreamResponse:
    """Answer with the price of a retry, and the button."""
    given, length = filters.read(page, FILTERS), page.query.get("since", "")

    def read(on: sa.Connection) -> Estimate:
        return retry.estimate(on, _chosen(page, on, given), retry.chances(even_paid=False))

    price = priced(await page.console.read(read))
    fields = {name: page.query.get(name, "") for name in FILTERS}
    line = command_line("retry", **{**fields, "since": length})
    return page.draw("error_retry.html", price=price, fields=fields, line=line)


async def do(page: PageCall) -> web.StreamResponse:
    """Retry the group."""
    form = await page.form()
    given = filters.read_fields({name: form.get(name, "") for name in FILTERS}, FILTERS)
    wanted = await page.console.read(lambda on: _chosen(page, on, given))
    allowed = retry.chances(even_paid=False)
    count = await page.act(
        "retry",
        f"requests that failed with {given['error']}",
        lambda: retry.retry(page.console.engine, wanted, allowed, actor=page.user.name),
        {name: form.get(name, "") for name in FILTERS},
        Role.ACT,
    )
    return page.see("/errors", f"{counted(count, 'request')} will be tried again.")


def _chosen(page: PageCall, on: sa.Connection, given: dict[str, Any]) -> DiscardedFilter:
    if "error" not in given:
        raise BadFilter("error: has to say which errors to retry")
    return retry.choose(
        on,
        page.console.settings,
        None,
        given.get("client"),
        given.get("since"),
        given["error"],
        given.get("model"),
    )
