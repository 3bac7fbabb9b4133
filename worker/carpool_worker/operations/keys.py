"""Creates, changes, rotates and revokes keys of the gateway. A secret is returned once, and stored nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.exceptions import WorkerError
from carpool_worker.policies.key_terms import KeyInvalid, KeyTerms, check_terms
from carpool_worker.policies.keys import GatewayKey, hash_of, hint_of, new_secret
from carpool_worker.store import gateway_keys
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import DAY, after

log = get_logger(__name__)

DEFAULT_GRACE = float(DAY) / 1_000
"""Seconds that the secret before is valid after a rotation."""

LONGEST_GRACE = 90 * DEFAULT_GRACE


FIXED = {"client", "name"}


class UnknownKey(WorkerError):
    """There is no key of this name or id."""


class KeyNameTaken(WorkerError):
    """There is a key of this name: names stand in the usage, so each is given once."""


class KeyRevoked(WorkerError):
    """The key was revoked: that is for good."""


class GraceInvalid(WorkerError):
    """The grace time of a rotation is not from 0 seconds to 90 days."""


@dataclass(frozen=True)
class NewSecret:
    """A key, and the secret that was made for it; None: the key was there already."""

    key: GatewayKey
    secret: str | None = field(repr=False)


def create(engine: sa.Engine, given: Mapping[str, Any], *, if_absent: bool = False, actor: str) -> NewSecret:
    """Create a key from the fields of KeyTerms; its name is the client's unless it has another.

    With `if_absent`, a key of that name and client is left as it is.

    Raises:
        KeyInvalid: a field breaks its rule.
        KeyNameTaken, KeyRevoked: there is, or was, a key of that name.
    """
    terms = check_terms({"name": given.get("client")} | dict(given))
    secret = new_secret()
    with write(engine) as connection:
        key = gateway_keys.create(connection, terms, hash_of(secret), hint_of(secret), now())
        if key is None:
            return NewSecret(_existing(connection, terms, if_absent=if_absent), None)
    _log("key created by operator", key, actor)
    return NewSecret(key, secret)


def ensure(engine: sa.Engine, given: Mapping[str, Any], secret: str, *, actor: str) -> GatewayKey:
    """Return the key of this name with this secret: a new one, or the one that there is, which gets this secret.

    Raises:
        KeyInvalid, KeyNameTaken, KeyRevoked: as `create` does.
    """
    terms, at = check_terms({"name": given.get("client")} | dict(given)), now()
    with write(engine) as connection:
        key = gateway_keys.create(connection, terms, hash_of(secret), hint_of(secret), at)
        if key is None:
            key = _existing(connection, terms, if_absent=True)
            if gateway_keys.find(connection, hash_of(secret)) is None:
                gateway_keys.rotate(connection, key.id, hash_of(secret), hint_of(secret), at, at)
    log.debug("key ensured", actor=actor, key=key.name, client=key.client)  # nobody has done anything
    return key


def change(engine: sa.Engine, name_or_id: str, changes: Mapping[str, Any], *, actor: str) -> GatewayKey:
    """Change fields of KeyTerms of a key that is not revoked; its name and its client stay.

    Raises:
        UnknownKey, KeyRevoked, KeyInvalid.
    """
    with write(engine) as connection:
        key = _usable(connection, name_or_id)
        gateway_keys.replace(connection, key.id, _changed(key, changes))
        changed = _usable(connection, key.id)
    _log("key changed by operator", key, actor, fields=sorted(changes))
    return changed


def rotate(engine: sa.Engine, name_or_id: str, grace: float = DEFAULT_GRACE, *, actor: str) -> NewSecret:
    """Give a key a new secret; the one before is valid for `grace` seconds more.

    Raises:
        UnknownKey, KeyRevoked, GraceInvalid.
    """
    check_grace(grace)
    secret, at = new_secret(), now()
    with write(engine) as connection:
        key = _usable(connection, name_or_id)
        gateway_keys.rotate(connection, key.id, hash_of(secret), hint_of(secret), after(at, grace), at)
        rotated = _usable(connection, key.id)
    _log("key rotated by operator", key, actor, grace=grace)
    return NewSecret(rotated, secret)


def check_grace(grace: float) -> None:
    """Raise GraceInvalid unless a grace time, in seconds, is within its bounds."""
    if not 0 <= grace <= LONGEST_GRACE:
        raise GraceInvalid(f"grace: must be from 0 seconds to 90 days, not {grace:g} seconds")


def revoke(engine: sa.Engine, name_or_id: str, *, actor: str) -> bool:
    """Revoke a key for good, with all its secrets; return whether it was not revoked before.

    Requests that came with it stay.

    Raises:
        UnknownKey.
    """
    with write(engine) as connection:
        key = find(connection, name_or_id)
        was_valid = gateway_keys.revoke(connection, key.id, now())
    if was_valid:
        _log("key revoked by operator", key, actor)
    return was_valid


def find(connection: sa.Connection, name_or_id: str) -> GatewayKey:
    """Return the key of this name or id.

    Raises:
        UnknownKey.
    """
    key = gateway_keys.get(connection, name_or_id)
    if key is None:
        raise UnknownKey(f"there is no key {name_or_id!r}: carpool keys list shows them")
    return key


def terms_of(key: GatewayKey) -> dict[str, Any]:
    """Return what was decided about a key, as the fields of KeyTerms."""
    same = (
        *("client", "name", "scopes", "models", "requests_a_minute", "most_queued", "most_held"),
        *(
            "lowest_priority",
            "highest_priority",
            "callback_hosts",
            "workspaces",
            "deadline",
            "deadline_policy",
        ),
    )
    terms = {name: getattr(key, name) for name in same}
    if key.budget:
        terms |= {name: getattr(key.budget, name) for name in ("day", "month", "over")}
    if key.expires_after is not None:
        return terms | {"expires_after": key.expires_after / 1_000}
    expires_at = None if key.expires_at is None else datetime.fromtimestamp(key.expires_at / 1_000, UTC)
    return terms | {"expires_at": expires_at}


def _changed(key: GatewayKey, changes: Mapping[str, Any]) -> KeyTerms:
    if fixed := sorted(FIXED & changes.keys()):
        raise KeyInvalid(f"{', '.join(fixed)}: can't be changed, as usage has it; create another key")
    terms = terms_of(key)
    if changes.get("expires_at") is not None:
        terms["expires_after"] = None  # one takes the other's place
    if changes.get("expires_after") is not None:
        terms["expires_at"] = None
    return check_terms(terms | dict(changes))


def _existing(connection: sa.Connection, terms: KeyTerms, *, if_absent: bool) -> GatewayKey:
    key = _usable(connection, terms.name)
    if if_absent and key.client == terms.client:
        return key
    raise KeyNameTaken(
        f"name: there is a key {terms.name!r} already, of the client {key.client!r}; choose another name"
    )


def _usable(connection: sa.Connection, name_or_id: str) -> GatewayKey:
    key = find(connection, name_or_id)
    if key.revoked_at is not None:
        raise KeyRevoked(f"the key {key.name!r} was revoked, for good: create one of another name")
    return key


def _log(event: str, key: GatewayKey, actor: str, **details: Any) -> None:
    log.info(event, actor=actor, key=key.name, client=key.client, **details)
