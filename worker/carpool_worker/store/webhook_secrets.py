"""SQL about the secrets with which clients' webhooks are signed. A client without one has the general ones (settings).

While a secret is rotated, the one before signs as well. Where that is the general one, its row has no secret.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.database import lock
from carpool_worker.models.tables import webhook_secrets
from carpool_worker.units import Milliseconds

GENERAL = ""
"""Stands for the general secrets."""

ROTATION_LOCK = 0x77656273
"""PostgreSQL's advisory lock on rotations."""

ROW = webhook_secrets.c
NEWEST = ROW.valid_until.is_(None)


@dataclass(frozen=True, slots=True)
class ClientSecrets:
    """With what each client's webhooks are signed."""

    own: Mapping[str, Sequence[str]]  # by client, the newest first; GENERAL among them stands for `general`
    general: Sequence[str]

    def of(self, client: str) -> list[str]:
        """Return the secrets that sign a client's webhooks; none where there is neither its own nor a general one."""
        return [
            secret
            for own in self.own.get(client, (GENERAL,))
            for secret in (self.general if own == GENERAL else (own,))
        ]


def load(connection: sa.Connection, at: Milliseconds) -> dict[str, list[str]]:
    """Return the secrets of each client that has, or lately had, one of its own; the newest first."""
    valid = sa.select(ROW.client, ROW.secret, ROW.valid_until).where(sa.or_(NEWEST, ROW.valid_until > at))
    found = defaultdict[str, list[str]](list)
    has_own = set[str]()
    for client, secret, valid_until in connection.execute(valid.order_by(ROW.client, ROW.number.desc())):
        found[client].append(secret)
        if valid_until is None:
            has_own.add(client)
    return {
        client: secrets if client in has_own else [GENERAL, *secrets] for client, secrets in found.items()
    }


def since(connection: sa.Connection, client: str) -> Milliseconds | None:
    """Return since when a client has its newest secret; None if it has none of its own."""
    newest = sa.select(ROW.created_at).where(ROW.client == client, NEWEST)
    found: Milliseconds | None = connection.scalar(newest)
    return found


def rotate(
    connection: sa.Connection, client: str, secret: str, valid_until: Milliseconds, at: Milliseconds
) -> None:
    """Give a client a new secret; those that sign its webhooks now do so until then, unless they end before."""
    lock(connection, ROTATION_LOCK)
    connection.execute(sa.delete(webhook_secrets).where(ROW.client == client, ROW.valid_until <= at))
    first = (connection.scalar(sa.select(sa.func.max(ROW.number)).where(ROW.client == client)) or 0) + 1
    if not _end_newest(connection, client, valid_until):
        general = {"client": client, "number": first, "secret": GENERAL}
        connection.execute(
            sa.insert(webhook_secrets).values(general | {"created_at": at, "valid_until": valid_until})
        )
    newest = {"client": client, "number": first + 1, "secret": secret, "created_at": at}
    connection.execute(sa.insert(webhook_secrets).values(newest))


def drop(connection: sa.Connection, client: str, valid_until: Milliseconds) -> bool:
    """Sign a client's webhooks with the general secrets again, and with its own until then; return if it had one."""
    lock(connection, ROTATION_LOCK)
    return _end_newest(connection, client, valid_until)


def _end_newest(connection: sa.Connection, client: str, valid_until: Milliseconds) -> bool:
    theirs = sa.update(webhook_secrets).where(ROW.client == client)
    earlier = theirs.where(ROW.valid_until > valid_until)
    connection.execute(earlier.values(valid_until=valid_until))
    return connection.execute(theirs.where(NEWEST).values(valid_until=valid_until)).rowcount > 0
