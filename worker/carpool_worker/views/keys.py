"""Keys of the gateway, as operators and their holders see them; no secret is in any view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.policies.keys import PREFIX, GatewayKey
from carpool_worker.store import gateway_keys
from carpool_worker.units import SECOND
from carpool_worker.views.encoding import Moment

ELLIPSIS = "…"


@dataclass(frozen=True, kw_only=True)
class KeyView:
    """A key of the gateway. Budgets are in dollars, `expires_after` is in seconds from its first use."""

    name: str
    client: str
    state: str  # valid, expired or revoked
    secret: str  # how its newest one begins
    scopes: Sequence[str]
    models: Sequence[str]  # patterns; none: every model
    requests_a_minute: int | None
    most_queued: int | None
    most_held: int | None
    day: Decimal | None
    month: Decimal | None
    over: str | None
    lowest_priority: int
    highest_priority: int
    callback_hosts: Sequence[str]
    workspaces: bool
    deadline: int | None  # seconds, of requests that name none
    deadline_policy: str | None  # what that may cost
    created_at: Moment
    expires_at: Moment | None
    expires_after: float | None
    first_used_at: Moment | None
    last_used_at: Moment | None
    revoked_at: Moment | None
    id: str


def key_view(key: GatewayKey) -> KeyView:
    """Return a key as a view."""
    same = (
        *("name", "client", "models", "requests_a_minute", "most_queued", "most_held", "lowest_priority"),
        *("highest_priority", "callback_hosts", "workspaces", "created_at", "expires_at", "first_used_at"),
        *("last_used_at", "revoked_at", "id", "deadline", "deadline_policy"),
    )
    budget = key.budget
    return KeyView(
        **{name: getattr(key, name) for name in same},
        state=_state(key),
        secret=f"{PREFIX}{key.hint}{ELLIPSIS}",
        scopes=sorted(key.scopes),
        day=budget.day if budget else None,
        month=budget.month if budget else None,
        over=budget.over.value if budget else None,
        expires_after=None if key.expires_after is None else key.expires_after / SECOND,
    )


def all_keys(connection: sa.Connection, client: str | None = None, *, revoked: bool = False) -> list[KeyView]:
    """Return the keys, all or those of a client, the oldest first; those that are revoked only if asked for."""
    found = gateway_keys.load(connection, client)
    return [key_view(key) for key in found if revoked or key.revoked_at is None]


def any_that(connection: sa.Connection, fits: Callable[[GatewayKey], bool]) -> bool:
    """Return whether there is such a key."""
    return any(map(fits, gateway_keys.load(connection)))


def names(connection: sa.Connection) -> list[str]:
    """Return the names of the keys that are not revoked."""
    return [key.name for key in gateway_keys.load(connection) if key.revoked_at is None]


def _state(key: GatewayKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.is_valid(now()) else "expired"
