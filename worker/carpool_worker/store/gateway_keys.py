"""SQL about the keys of the gateway. Of a secret only its SHA-256 and its first characters are ever here."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
import uuid_utils

from carpool.contract import CLIENT_NAME, REQUEST_ID
from carpool_worker.database import now
from carpool_worker.models.tables import gateway_keys, gateway_secrets
from carpool_worker.policies.budgets import Budget, Over
from carpool_worker.policies.key_terms import KeyTerms
from carpool_worker.policies.keys import GatewayKey, Scope
from carpool_worker.store.upserts import insert_missing
from carpool_worker.units import SECOND, Milliseconds

TOUCH_INTERVAL = Milliseconds(60 * SECOND)
"""A key's last use is written once in this time at most."""

KEY = gateway_keys.c
SECRET = gateway_secrets.c
LIMITED = sa.or_(KEY.day.is_not(None), KEY.month.is_not(None))
NEWEST = SECRET.valid_until.is_(None)


def find(connection: sa.Connection, secret_hash: str) -> GatewayKey | None:
    """Return the key with a secret of this SHA-256, whether it is valid or not; None: there is none.

    A secret that a rotation has replaced is found until its grace time is over.
    """
    found = _keys().where(
        KEY.id.in_(
            sa.select(SECRET.key_id).where(
                SECRET.hash == secret_hash, sa.or_(NEWEST, SECRET.valid_until > now())
            )
        )
    )
    row = connection.execute(found).one_or_none()
    return None if row is None else _key(row)


def get(connection: sa.Connection, name_or_id: str) -> GatewayKey | None:
    """Return the key of this name or id."""
    if not CLIENT_NAME.fullmatch(name_or_id):
        return None
    is_id = REQUEST_ID.fullmatch(name_or_id)
    row = connection.execute(
        _keys().where(KEY.id == name_or_id if is_id else KEY.name == name_or_id)
    ).one_or_none()
    return None if row is None else _key(row)


def load(connection: sa.Connection, client: str | None = None) -> list[GatewayKey]:
    """Return all keys, or those of one client, in the order in which they were made."""
    keys = _keys().order_by(KEY.created_at, KEY.id)
    return [
        _key(row) for row in connection.execute(keys if client is None else keys.where(KEY.client == client))
    ]


def with_budgets(connection: sa.Connection, names: Collection[str]) -> list[GatewayKey]:
    """Return those of these keys that have a budget; a revoked key still has one, as its requests may still run."""
    named = _keys().where(KEY.name.in_(names), LIMITED)
    return [_key(row) for row in connection.execute(named.order_by(KEY.name))] if names else []


def all_with_budgets(connection: sa.Connection, client: str | None = None) -> list[GatewayKey]:
    """Return the keys that have a budget, all or those of one client."""
    limited = _keys().where(LIMITED).order_by(KEY.name)
    return [
        _key(row)
        for row in connection.execute(limited if client is None else limited.where(KEY.client == client))
    ]


def names_with_most_queued(connection: sa.Connection) -> list[str]:
    """Return the names of the keys that limit how many of their requests wait, but not those of revoked ones."""
    limited = sa.select(KEY.name).where(KEY.most_queued.is_not(None), KEY.revoked_at.is_(None))
    return list(connection.scalars(limited.order_by(KEY.name)))


def create(
    connection: sa.Connection, terms: KeyTerms, secret_hash: str, hint: str, at: Milliseconds
) -> GatewayKey | None:
    """Insert a key with its first secret; return None if there is one of that name."""
    id_ = uuid_utils.uuid7().hex
    if not insert_missing(connection, gateway_keys, [{"id": id_, "created_at": at} | _stored(terms)]):
        return None
    _add_secret(connection, id_, secret_hash, hint, at)
    return get(connection, id_)


def replace(connection: sa.Connection, id_: str, terms: KeyTerms) -> None:
    """Change what was decided about a key."""
    connection.execute(sa.update(gateway_keys).where(KEY.id == id_).values(_stored(terms)))


def rotate(
    connection: sa.Connection,
    id_: str,
    secret_hash: str,
    hint: str,
    valid_until: Milliseconds,
    at: Milliseconds,
) -> None:
    """Give a key a new secret; the ones that it has are valid until then, unless they end before."""
    theirs = sa.update(gateway_secrets).where(
        SECRET.key_id == id_, sa.or_(NEWEST, SECRET.valid_until > valid_until)
    )
    connection.execute(theirs.values(valid_until=valid_until))
    _add_secret(connection, id_, secret_hash, hint, at)


def revoke(connection: sa.Connection, id_: str, at: Milliseconds) -> bool:
    """Revoke a key for good; return whether it was not revoked before."""
    unrevoked = sa.update(gateway_keys).where(KEY.id == id_, KEY.revoked_at.is_(None))
    return connection.execute(unrevoked.values(revoked_at=at)).rowcount == 1


def touch(connection: sa.Connection, used: Mapping[str, Milliseconds]) -> None:
    """Record when keys, by id, were used last, and so for the first time; several gateways may do so at once."""
    for id_ in sorted(used):
        at = used[id_]
        is_due = sa.or_(KEY.last_used_at.is_(None), KEY.last_used_at <= at - TOUCH_INTERVAL)
        due = sa.update(gateway_keys).where(KEY.id == id_, is_due)
        connection.execute(due.values(last_used_at=at, first_used_at=sa.func.coalesce(KEY.first_used_at, at)))


def _add_secret(connection: sa.Connection, id_: str, secret_hash: str, hint: str, at: Milliseconds) -> None:
    row = {"hash": secret_hash, "key_id": id_, "hint": hint, "created_at": at}
    connection.execute(sa.insert(gateway_secrets).values(row))


def _keys() -> sa.Select[Any]:
    newest = sa.and_(SECRET.key_id == KEY.id, NEWEST)
    return sa.select(gateway_keys, SECRET.hint).join_from(gateway_keys, gateway_secrets, newest)


def _stored(terms: KeyTerms) -> dict[str, Any]:
    same = (
        "client",
        "name",
        "requests_a_minute",
        "most_queued",
        "most_held",
        "day",
        "month",
        "lowest_priority",
        "highest_priority",
        "workspaces",
        "deadline",
        "deadline_policy",
    )
    return {name: getattr(terms, name) for name in same} | {
        "scopes": json.dumps(sorted(terms.scopes)),
        "models": json.dumps(terms.models),
        "callback_hosts": json.dumps(terms.callback_hosts),
        "over": terms.over.value,
        "expires_at": terms.expiry,
        "expires_after": terms.lifetime,
    }


def _key(row: sa.Row[Any]) -> GatewayKey:
    limited = row.day is not None or row.month is not None
    expires_at = row.expires_at
    if row.expires_after is not None and row.first_used_at is not None:
        expires_at = row.first_used_at + row.expires_after
    return GatewayKey(
        id=row.id,
        name=row.name,
        client=row.client,
        hint=row.hint,
        scopes=frozenset(map(Scope, json.loads(row.scopes))),
        models=tuple(json.loads(row.models)),
        requests_a_minute=row.requests_a_minute,
        most_queued=row.most_queued,
        most_held=row.most_held,
        budget=Budget(day=row.day, month=row.month, over=Over(row.over)) if limited else None,
        lowest_priority=row.lowest_priority,
        highest_priority=row.highest_priority,
        callback_hosts=tuple(json.loads(row.callback_hosts)),
        workspaces=row.workspaces,
        deadline=row.deadline,
        deadline_policy=row.deadline_policy,
        created_at=row.created_at,
        expires_at=expires_at,
        expires_after=row.expires_after,
        first_used_at=row.first_used_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
