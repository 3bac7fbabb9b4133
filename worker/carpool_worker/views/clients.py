"""Clients: what each has waiting and has used; and the details of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.coordination.loads import NOTHING
from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import exact
from carpool_worker.policies.fairness import weight_of
from carpool_worker.policies.quotas import quota_of
from carpool_worker.settings import Settings
from carpool_worker.store import usage, webhook_secrets
from carpool_worker.store.reports import clients
from carpool_worker.store.requests import reservations
from carpool_worker.store.usage import UsageRow
from carpool_worker.views.budgets import BudgetView, budget
from carpool_worker.views.encoding import Moment
from carpool_worker.views.quotas import QuotaView, quota_view
from carpool_worker.views.turns import ClientTurnView, queues


class UnknownClient(WorkerError):
    """No client of this name has a key, or ever enqueued a request."""


@dataclass(frozen=True, kw_only=True)
class ClientView:
    """A client; `held` of its waiting requests are over budget. Money in dollars, None where it is unknown.

    Its turn is the earliest that it has at any account.
    """

    client: str
    waiting: int
    answered: int
    cost: Decimal | None
    saved: Decimal | None
    held: int
    weight: float  # beside other clients', where there is not room for all
    turn: int | None  # 1: it goes next; None: none of its batches waits for room
    share: float | None  # what it gets of the room while all of these wait, from 0 to 1
    quota_requests: int | None = None  # that may wait, as the settings have it; None: any number
    quota_bytes: int | None = None  # of their params


@dataclass(frozen=True, kw_only=True)
class ModelUsage:
    """What a client used of a model; money in dollars, None where it is unknown."""

    cost: Decimal | None
    saved: Decimal | None
    model: str
    answered: int


@dataclass(frozen=True, kw_only=True)
class ClientDetails:
    """Where a client's requests wait, its dead letters, what it used of each model, and its budget if it has one."""

    client: str
    waiting: Mapping[str, int]  # by the state of their batch, `retryable`, or `held` by the budget
    dead_letters: int
    models: Sequence[ModelUsage]
    budget: BudgetView | None
    quota: QuotaView | None  # with what waits in the tables
    weight: float  # beside other clients', where there is not room for all
    turns: Sequence[ClientTurnView]  # at the accounts that have not room for all
    secret_since: Moment | None  # since when its webhooks are signed with a secret of its own


def active(connection: sa.Connection, settings: Settings, since: int | None = None) -> list[ClientView]:
    """Return the clients that wait for an answer or have had one since then (whole days, UTC), most expensive last."""
    waiting, held = clients.waiting(connection), reservations.count_held(connection)
    turns = {
        one.client: one for one in sorted(queues(connection, settings).clients, key=lambda one: -one.place)
    }
    used = {row.client: row for row in usage.totals(connection, ["client"], day_of(since))}
    found = [
        ClientView(
            client=client,
            waiting=waiting.get(client, 0),
            answered=used[client].requests if client in used else 0,
            cost=_known(used.get(client), "cost"),
            saved=_known(used.get(client), "saved"),
            held=held.get(client, 0),
            quota_requests=quota.requests if (quota := quota_of(settings.quotas, client)) else None,
            quota_bytes=quota.bytes if quota else None,
            weight=weight_of(settings.client_weights, client),
            turn=turns[client].place if client in turns else None,
            share=turns[client].share if client in turns else None,
        )
        for client in {*used, *waiting}
    ]
    return sorted(found, key=lambda one: (one.cost or 0, one.answered, one.waiting, one.client))


def find(
    connection: sa.Connection, settings: Settings, client: str, since: int | None = None
) -> ClientDetails:
    """Return one client, with what it has used since then (whole days, UTC).

    Raises:
        UnknownClient.
    """
    if not clients.is_known(connection, client):
        raise UnknownClient(f"there is no client {client!r}: carpool clients lists them")
    models = usage.totals(connection, ["model"], day_of(since), None, client)
    return ClientDetails(
        client=client,
        waiting=clients.waiting_by_state(connection, client),
        dead_letters=clients.dead_letters(connection, client),
        models=[
            ModelUsage(
                cost=_known(row, "cost"), saved=_known(row, "saved"), model=row.model, answered=row.requests
            )
            for row in models
        ],
        weight=weight_of(settings.client_weights, client),
        turns=[one for one in queues(connection, settings).clients if one.client == client],
        budget=budget(connection, settings, client),
        quota=_quota(connection, settings, client),
        secret_since=webhook_secrets.since(connection, client),
    )


def names(connection: sa.Connection) -> list[str]:
    """Return the clients that have had an answer, most expensive first."""
    return [row.client for row in usage.totals(connection, ["client"])]


def _quota(connection: sa.Connection, settings: Settings, client: str) -> QuotaView | None:
    quota = quota_of(settings.quotas, client)
    if quota is None:
        return None
    return quota_view(client, quota, clients.loads(connection, {client}, ()).get(client, NOTHING))


def _known(used: UsageRow | None, amount: str) -> Decimal | None:
    return exact(getattr(used, amount)) if used and used.is_priced else None


def day_of(since: int | None) -> str | None:
    """Return the day (UTC) of a time, in milliseconds since the epoch, as the ledger has it."""
    return None if since is None else datetime.fromtimestamp(since / 1_000, UTC).date().isoformat()
