"""Clients and keys: a card for each client, and a page with its models, its advice and its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from aiohttp import web

from carpool_worker.console.day_filters import number, one_of
from carpool_worker.console.filters import check_known
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import NotHere
from carpool_worker.database import now
from carpool_worker.settings import Settings
from carpool_worker.units import DAY, Milliseconds
from carpool_worker.views import budgets, client_cards, clients, keys
from carpool_worker.views.budgets import BudgetView
from carpool_worker.views.client_advice import Advised, by_client, saves
from carpool_worker.views.clients import ClientDetails
from carpool_worker.views.keys import KeyView
from carpool_worker.views.usage import UsageView, together, totals

FRESH_SECONDS = 5.0
ADVICE_SECONDS = 900.0
"""How old what is shown may be, and the advice."""

PERIODS = {"7d": 7, "30d": 30, "90d": 90}
CARDS = 24
MOST_KEYS = 200
"""Shown; `carpool keys list` lists all."""


@dataclass(frozen=True)
class ClientPage:
    """A client with what it used, its keys, and the budgets of those that have one."""

    details: ClientDetails
    used: UsageView
    keys: Sequence[KeyView]
    budgets: Mapping[str, BudgetView]


async def show_all(page: PageCall) -> web.StreamResponse:
    """Answer with a card for each client, the dearest first."""
    check_known(page.query, ("period", "named", "skip"))
    period = one_of(page.query, "period", PERIODS, "30d")
    skip, named, only = number(page.query, "skip"), page.query.get("named", ""), page.user.client
    settings, since = page.console.settings, _since(period)

    def read(connection: sa.Connection) -> tuple[client_cards.CardPage, list[KeyView]]:
        cards = client_cards.page(connection, settings, since, CARDS, skip, named, only)
        return cards, keys.all_keys(connection, only)

    async def ask() -> tuple[client_cards.CardPage, list[KeyView]]:
        return await page.console.read(read)

    advised = await _advised(page)
    found, all_keys = await page.cached(("clients", period, skip, named), FRESH_SECONDS, ask)
    return page.draw(
        "clients.html",
        found=found,
        keys=all_keys[:MOST_KEYS],
        key_count=len(all_keys),
        period=period,
        periods=PERIODS,
        skip=skip,
        most=CARDS,
        advised=None if advised is None else {client: saves(some) for client, some in advised.items()},
        now=now(),
    )


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with one client."""
    check_known(page.query, ("period",))
    period = one_of(page.query, "period", PERIODS, "30d")
    client = page.request.match_info["client"]
    if page.user.client not in (None, client):
        raise NotHere
    settings, since = page.console.settings, _since(period)

    async def ask() -> ClientPage:
        return await page.console.read(lambda connection: _client(connection, settings, client, since))

    try:
        found = await page.cached(("client", client, period), FRESH_SECONDS, ask)
    except clients.UnknownClient as error:
        raise NotHere(f"There is no client {client!r}.") from error
    advised = await _advised(page)
    return page.draw(
        "client.html",
        client=client,
        found=found,
        advice=None if advised is None else advised.get(client, ()),
        period=period,
        periods=PERIODS,
        since=datetime.fromtimestamp(since / 1_000, UTC).date(),
        now=now(),
    )


async def _advised(page: PageCall) -> Advised | None:
    """Return advice from the last week, or None while it is being worked out: a page does not wait for that."""
    engine, settings = page.console.engine, page.console.settings
    since = datetime.fromtimestamp(_since("7d") / 1_000, UTC).date().isoformat()

    async def ask() -> Advised:
        return await page.console.run(lambda: by_client(engine, settings, since))

    return await page.console.cached.at_once("advice", ADVICE_SECONDS, ask)


def _client(connection: sa.Connection, settings: Settings, client: str, since: Milliseconds) -> ClientPage:
    details = clients.find(connection, settings, client, since)
    return ClientPage(
        details,
        together(totals(connection, ["client"], clients.day_of(since), client=client)),
        keys.all_keys(connection, client, revoked=True)[:MOST_KEYS],
        budgets.of_keys(connection, client),
    )


def _since(period: str) -> Milliseconds:
    return Milliseconds(now() - (PERIODS[period] - 1) * DAY)
