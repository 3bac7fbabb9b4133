"""SQL about the API keys that batches were made with, and which of them are of one workspace.

A fingerprint is a random salt and a keyed digest, so the table tells nobody a key, nor that two databases share one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.database import lock
from carpool_worker.models import ClaudeKey
from carpool_worker.models.tables import batches, claude_keys
from carpool_worker.units import Milliseconds

SALT_BYTES = 8
DIGEST_BYTES = 8

KEYS_LOCK = 0x6B657973
"""PostgreSQL's advisory lock on the table: a key has one fingerprint, and two workspaces become one all at once."""

ROW = claude_keys.c


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """The keys that were used so far."""

    rows: Sequence[ClaudeKey]

    def find(self, secret: bytes) -> ClaudeKey | None:
        """Return the key of what identifies a caller (Claude.secret), or None if it is new."""
        return next((row for row in self.rows if _is_of(secret, row.fingerprint)), None)

    def of_one_workspace(self, one: str, poster: str | None) -> bool:
        """Return whether a key is known to be of the workspace of the key that posted a batch.

        Of batches without a poster, which an earlier version posted, each key judges that has seen any of ours.
        """
        by_name = {row.fingerprint: row for row in self.rows}
        if poster is None:
            return one in by_name and by_name[one].saw_ours_at is not None
        return one == poster or (
            one in by_name and poster in by_name and by_name[one].same_as == by_name[poster].same_as
        )

    def siblings(self, poster: str) -> list[str]:
        """Return the fingerprints of all keys that are known to be of the workspace of this one."""
        same_as = {row.same_as for row in self.rows if row.fingerprint == poster}
        return [row.fingerprint for row in self.rows if row.same_as in same_as]


def load(connection: sa.Connection) -> KnownKeys:
    """Return the keys that were used so far; they are few."""
    found = connection.execute(sa.select(claude_keys).order_by(ROW.first_used_at, ROW.fingerprint))
    return KnownKeys([ClaudeKey(**row._mapping) for row in found])


def register(
    connection: sa.Connection,
    secret: bytes,
    account: str | None,
    at: Milliseconds,
    *,
    organization: str | None = None,
    workspace: str | None = None,
) -> str:
    """Return the fingerprint of what identifies a caller (Claude.secret); store it and the ids if they are new."""
    ids = {"organization": organization, "workspace": workspace}
    if known := load(connection).find(secret):
        return _with_ids(connection, known, ids)
    lock(connection, KEYS_LOCK)
    if known := load(connection).find(secret):
        return _with_ids(connection, known, ids)  # another process was faster
    salt = secrets.token_bytes(SALT_BYTES)
    fingerprint = salt.hex() + _digest(secret, salt)
    row = {
        "fingerprint": fingerprint,
        "same_as": fingerprint,
        "account": account,
        "first_used_at": at,
    }
    connection.execute(sa.insert(claude_keys).values(row | ids))
    return fingerprint


def recognize(connection: sa.Connection, seer: str, poster: str | None, at: Milliseconds) -> bool:
    """Record that a key has seen a batch that `poster` posted: they are of one workspace. Return if that is new."""
    first = sa.update(claude_keys).where(ROW.fingerprint == seer, ROW.saw_ours_at.is_(None))
    is_first = connection.execute(first.values(saw_ours_at=at)).rowcount == 1
    if poster is None:
        return is_first
    lock(connection, KEYS_LOCK)
    both = sa.select(ROW.same_as).where(ROW.fingerprint.in_([seer, poster])).distinct().order_by(ROW.same_as)
    names = connection.scalars(both).all()
    if len(names) == 2:
        kept, dropped = names
        connection.execute(sa.update(claude_keys).where(ROW.same_as == dropped).values(same_as=kept))
    return len(names) == 2


def newest_posted(connection: sa.Connection, posters: Sequence[str] | None, since: str) -> str | None:
    """Return Anthropic's id of the newest batch that one of these keys posted (None: any key), if it has one.

    Only batches whose id is `since` or higher are looked at.
    """
    row = batches.c
    posted = sa.select(row.claude_id).where(row.claude_id.is_not(None), row.id >= since)
    posted = posted.where(row.in_doubt_at.is_(None))  # an adopted one may still prove to be another program's
    if posters is not None:
        posted = posted.where(row.poster.in_(posters))
    found: str | None = connection.scalar(posted.order_by(row.id.desc()).limit(1))
    return found


def _with_ids(connection: sa.Connection, known: ClaudeKey, ids: Mapping[str, str | None]) -> str:
    learned = {name: id_ for name, id_ in ids.items() if id_ and getattr(known, name) is None}
    if learned:
        connection.execute(sa.update(claude_keys).where(ROW.fingerprint == known.fingerprint).values(learned))
    return known.fingerprint


def _is_of(secret: bytes, fingerprint: str) -> bool:
    salt = bytes.fromhex(fingerprint[: 2 * SALT_BYTES])
    return secrets.compare_digest(fingerprint[2 * SALT_BYTES :], _digest(secret, salt))


def _digest(secret: bytes, salt: bytes) -> str:
    return hashlib.blake2b(
        secret, digest_size=DIGEST_BYTES, salt=salt, person=b"carpool-claude-k"
    ).hexdigest()
