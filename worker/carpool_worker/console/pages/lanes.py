"""Lanes and limits: what is paused and why, how full the accounts are, when batches may go and how long they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
import sqlalchemy as sa
from aiohttp import web

from carpool_worker.console.filters import check_known
from carpool_worker.console.page_calls import PageCall
from carpool_worker.database import now
from carpool_worker.formatting import age
from carpool_worker.policies.windows import parse_all
from carpool_worker.settings import Settings
from carpool_worker.units import SECOND
from carpool_worker.views import accounts, durations, lanes, turns
from carpool_worker.views.accounts import Queue
from carpool_worker.views.duration_charts import MOST_MODELS, durations_chart
from carpool_worker.views.durations import ModelHours
from carpool_worker.views.lanes import LaneView
from carpool_worker.views.quotas import QuotaView, read_quotas
from carpool_worker.views.turns import ClientTurnView
from carpool_worker.views.windows import week

FRESH_SECONDS = 5.0
MOST_LANES = 200
MOST_CLIENTS = 50
"""Shown of each list; `carpool lanes` and `carpool clients` list all."""


@dataclass(frozen=True)
class LanesAndLimits:
    """What the tables say about lanes and limits."""

    lanes: Sequence[LaneView]
    accounts: Mapping[str, Queue]
    turns: Sequence[ClientTurnView]
    durations: Sequence[ModelHours]


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with the lanes and the limits."""
    check_known(page.query, ("model",))
    console = page.console

    async def ask() -> tuple[LanesAndLimits, Sequence[QuotaView]]:
        found = await console.read(lambda connection: _limits(connection, console.settings))
        return found, await console.run(lambda: _quotas(console.server))

    found, quotas = await page.cached("lanes", FRESH_SECONDS, ask)
    at = now()
    models = _chosen(found.durations, page.query.get("model"))
    return page.draw(
        "lanes.html",
        found=found,
        lanes=[
            (lane, "paused" if lane.paused else "idle" if _is_idle(lane) else "running")
            for lane in _paused_first(found.lanes)[:MOST_LANES]
        ],
        turns=found.turns[:MOST_CLIENTS],
        quotas=quotas[:MOST_CLIENTS],
        week=week(parse_all(console.settings.submit_windows), at),
        now=at,
        models=[of.model for of in found.durations],
        durations_chart=durations_chart(models) if models else None,
        durations_table=durations_table(models),
    )


def durations_table(models: Sequence[ModelHours]) -> Mapping[str, Any]:
    """Return the numbers of the chart: a line for each model and hour of which something was learned."""
    rows = [
        (of.model, f"{one.hour:02}:00", _length(one.half_within), _length(one.most_within))
        for of in models
        for one in of.hours
        if one.half_within is not None
    ]
    return {"columns": ("Model", "Posted at (UTC)", ">Half within", ">95 % within"), "rows": rows}


def _limits(connection: sa.Connection, settings: Settings) -> LanesAndLimits:
    return LanesAndLimits(
        lanes.every(connection),
        accounts.queues(connection, settings),
        turns.queues(connection, settings).clients,
        durations.by_hour(connection),
    )


def _quotas(server: redis.Redis) -> Sequence[QuotaView]:
    try:
        return read_quotas(server)
    except redis.RedisError:
        return []


def _paused_first(found: Sequence[LaneView]) -> list[LaneView]:
    """Return the paused ones, then those that have work, and then the idle ones, which may be paused as well."""
    return sorted(found, key=lambda lane: (not lane.paused, _is_idle(lane)))


def _is_idle(lane: LaneView) -> bool:
    return not (lane.open_requests or lane.sealed_batches or lane.out_requests)


def _chosen(found: Sequence[ModelHours], model: str | None) -> Sequence[ModelHours]:
    """Return the model that is asked about, or else those of which most was learned lately."""
    if model:
        return [of for of in found if of.model == model]
    most = sorted(found, key=lambda of: -sum(one.batches for one in of.hours))[:MOST_MODELS]
    return sorted(most, key=lambda of: of.model)


def _length(seconds: float | None) -> str:
    return "" if seconds is None else age(seconds * SECOND)
