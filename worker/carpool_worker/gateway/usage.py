"""GET /v1/carpool/usage and /v1/carpool/me: what a key has used, and what its holder may do."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from carpool.contract import CLIENT_NAME, to_json
from carpool.exceptions import InvalidRequest
from carpool_worker.gateway.answering import json_answer
from carpool_worker.gateway.calls import Call
from carpool_worker.policies.key_terms import NAME_RULE
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.views import budgets
from carpool_worker.views.encoding import plain
from carpool_worker.views.keys import key_view
from carpool_worker.views.usage import MEASURES, UsageView, together, totals

OWN_DIMENSIONS = ("day", "model")
DEFAULT_DAYS = 30
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


async def show(call: Call) -> web.StreamResponse:
    """Answer with what the caller's key has used."""
    return await answer_usage(call, OWN_DIMENSIONS, client=call.key.client, key=call.key.name)


async def me(call: Call) -> web.StreamResponse:
    """Answer with what the caller's key may do, and what is left of its budget."""
    return json_answer(to_json(await call.gateway.read(lambda connection: described(connection, call.key))))


def described(connection: sa.Connection, key: GatewayKey) -> dict[str, Any]:
    """Return a key as JSON has it: what its holder may do, and what is left of its budget."""
    budget = budgets.of_key(connection, key)
    left = None if budget is None else plain(budget) | {"left": plain(budgets.left(budget))}
    found: dict[str, Any] = plain(key_view(key))
    return {"type": "carpool_key"} | found | {"budget": left}


async def answer_usage(
    call: Call, dimensions: Sequence[str], *, client: str | None, key: str | None
) -> web.StreamResponse:
    """Answer with what was used, summed by some of these dimensions, as the query `since`, `until` and `by` asks.

    Days are UTC, and both are included; by default they are the last 30. Dollars are texts, with all their digits; an
    amount that is not known is null.

    Raises:
        InvalidRequest: the query breaks a rule; it names the field and the rule.
    """
    query = call.request.query
    by = _dimensions(query.get("by", ",".join(dimensions)), dimensions)
    until = _day("until", query.get("until"), datetime.now(UTC).date())
    earlier = min(timedelta(DEFAULT_DAYS - 1), until - date.min)
    since = _day("since", query.get("since"), until - earlier)
    if since > until:
        raise InvalidRequest("since", "must not be after until")
    first, last = since.isoformat(), until.isoformat()
    rows = await call.gateway.read(lambda connection: totals(connection, by, first, last, client, key))
    answer = {
        "type": "carpool_usage",
        "since": first,
        "until": last,
        "data": [_record(row, by) for row in rows],
        "total": _record(together(rows), ()),
    }
    return json_answer(to_json(answer))


def _record(row: UsageView, by: Sequence[str]) -> dict[str, Any]:
    return {name: plain(getattr(row, name)) for name in (*by, *MEASURES, "unpriced")}


def _dimensions(given: str, allowed: Collection[str]) -> list[str]:
    named = [part.strip() for part in given.split(",") if part.strip()]
    if not named or len(set(named)) < len(named) or not set(named) <= set(allowed):
        raise InvalidRequest(
            "by", f"must be one or more of {', '.join(allowed)}, with commas, each only once"
        )
    return named


def _day(field: str, given: str | None, default: date) -> date:
    if given is None:
        return default
    try:
        if DAY.fullmatch(given):
            return date.fromisoformat(given)
    except ValueError:
        pass
    raise InvalidRequest(field, "must be a day (UTC), as 2026-11-22")


def name_in(call: Call, field: str) -> str | None:
    """Return the name of a client or a key in the query, if it has one; raises InvalidRequest."""
    given = call.request.query.get(field)
    if given is not None and not CLIENT_NAME.fullmatch(given):
        raise InvalidRequest(field, NAME_RULE)
    return given
