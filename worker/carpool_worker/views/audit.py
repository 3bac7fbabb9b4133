"""The audit log as a page shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from carpool_worker.store import audit_log
from carpool_worker.views.encoding import Moment


@dataclass(frozen=True)
class AuditView:
    """What somebody did on the console, and how it ended: "begun", "done" or "failed"."""

    at: Moment
    actor: str
    action: str
    what: str
    details: Mapping[str, Any]
    outcome: str
    error: str | None
    id: str


def newest(
    connection: sa.Connection, most: int, after: str | None = None, client: str | None = None
) -> Sequence[AuditView]:
    """Return what was done, the newest first: all or a tenant's, older than the entry `after` if one is given."""
    return [
        AuditView(
            row.at, row.actor, row.action, row.what, json.loads(row.details), row.outcome, row.error, row.id
        )
        for row in audit_log.newest(connection, most, after, client)
    ]
