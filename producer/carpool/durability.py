"""Durable appends: Redis confirms, by WAITAOF (Redis 7.2 or Valkey), that they are on disk."""

from __future__ import annotations

from typing import Final

from carpool.exceptions import NotDurable

SYNC_MILLISECONDS = 5_000
"""How long an append may take to reach the disk; less than the socket's timeout. Redis syncs at least each second."""

SYNC: Final = ("WAITAOF", 1, 0, SYNC_MILLISECONDS)
"""Waits for the earlier writes of the same connection, so it comes last in their pipeline."""

PROBE: Final = ("WAITAOF", 1, 0, 1)
"""Sent before anything is appended: a server that can't sync refuses it."""

OFF = "can't be durable: Redis keeps no append-only file; set appendonly yes there, or durable=False here"
UNKNOWN = "can't be durable: this Redis has no WAITAOF (Redis 7.2 has, and Valkey); use durable=False"
LATE = (
    f"not on disk after {SYNC_MILLISECONDS / 1_000:g} s, so it may be lost or may run: "
    "is Redis' appendfsync set to no, or its disk slow?"
)


def confirm_probe(reply: object) -> None:
    """Raise NotDurable if the server can't confirm that a write is on disk; nothing has been appended then."""
    if isinstance(reply, Exception):
        raise NotDurable(OFF if "appendonly" in str(reply) else f"{UNKNOWN} ({reply})")


def confirm_sync(reply: object) -> None:
    """Raise NotDurable unless the server has synced the writes before."""
    confirm_probe(reply)
    if not isinstance(reply, list | tuple) or not reply or reply[0] != 1:
        raise NotDurable(LATE)
