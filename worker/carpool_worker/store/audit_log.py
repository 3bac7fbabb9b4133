"""SQL about the audit log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
import uuid_utils

from carpool_worker.models.tables import audit_log
from carpool_worker.units import Milliseconds

ENTRY = audit_log.c


def begin(
    connection: sa.Connection,
    at: Milliseconds,
    actor: str,
    action: str,
    what: str,
    details: Mapping[str, Any],
    client: str | None,
) -> str:
    """Write that something is about to be done; return the entry's id."""
    id_ = uuid_utils.uuid7().hex
    row = {"actor": actor, "action": action, "what": what, "details": json.dumps(details), "client": client}
    connection.execute(sa.insert(audit_log).values(row | {"id": id_, "at": at, "outcome": "begun"}))
    return id_


def end(connection: sa.Connection, id_: str, error: str | None) -> None:
    """Write that it was done, or why it failed."""
    ended = sa.update(audit_log).where(ENTRY.id == id_)
    connection.execute(ended.values(outcome="done" if error is None else "failed", error=error))


def newest(
    connection: sa.Connection, most: int, after: str | None = None, client: str | None = None
) -> Sequence[sa.Row[Any]]:
    """Return entries, the newest first: those older than the entry `after`, or those of one tenant's."""
    found = sa.select(audit_log).order_by(ENTRY.id.desc()).limit(most)
    if after is not None:
        found = found.where(ENTRY.id < after)
    if client is not None:
        found = found.where(ENTRY.client == client)
    return connection.execute(found).all()
