"""Durable appends: Redis confirms, by WAITAOF (Redis 7.2 or Valkey), that they are on its disk, and its replicas'."""

from __future__ import annotations

from typing import Final, NamedTuple

from carpool.exceptions import NotDurable

SYNC_MILLISECONDS = 5_000
"""How long an append may take to reach the disks; less than the socket's timeout. Redis syncs at least each second."""

MAX_REPLICAS = 16

PROBE: Final = ("WAITAOF", 1, 0, 1)
"""A server that can't sync refuses it."""

OFF = "can't be durable: Redis keeps no append-only file; set appendonly yes there, or durable=False here"
UNKNOWN = "can't be durable: this Redis has no WAITAOF (Redis 7.2 has, and Valkey); use durable=False"
LATE = (
    f"not on disk after {SYNC_MILLISECONDS / 1_000:g} s, so it may be lost or may run: "
    "is Redis' appendfsync set to no, or its disk slow?"
)

_Command = tuple[str, int, int, int]


class Durability(NamedTuple):
    """What must be confirmed before a durable call returns."""

    replicas: int = 0
    """Replicas that must have the requests on their disks too, so that a failover to any of these loses none."""

    @property
    def sync(self) -> _Command:
        """Waits for the earlier writes of the same connection, so it comes last in their pipeline."""
        return "WAITAOF", 1, self.replicas, SYNC_MILLISECONDS

    @property
    def probe(self) -> _Command:
        """Sent before anything is appended: a server that can't sync refuses it, or has too few replicas."""
        return self.sync if self.replicas else PROBE

    def confirm_probe(self, reply: object) -> None:
        """Raise NotDurable if the server can't confirm that a write is on disk; nothing has been appended then."""
        _check_ability(reply)
        if (found := _replicas(reply)) < self.replicas:
            raise NotDurable(
                f"can't be durable on replicas: {found} of {self.replicas} had what was sent before on disk within "
                f"{SYNC_MILLISECONDS / 1_000:g} s; nothing was enqueued. Is each connected, with appendonly yes?"
            )

    def confirm_sync(self, reply: object) -> None:
        """Raise NotDurable unless the server, and so many replicas, have synced the writes before."""
        _check_ability(reply)
        if not isinstance(reply, list | tuple) or not reply or reply[0] != 1:
            raise NotDurable(LATE)
        if (found := _replicas(reply)) < self.replicas:
            raise NotDurable(
                f"on Redis' disk, but after {SYNC_MILLISECONDS / 1_000:g} s only on those of {found} of "
                f"{self.replicas} replicas: a failover may lose it, else it will run"
            )


def _check_ability(reply: object) -> None:
    if isinstance(reply, Exception):
        raise NotDurable(OFF if "appendonly" in str(reply) else f"{UNKNOWN} ({reply})")


def _replicas(reply: object) -> int:
    return reply[1] if isinstance(reply, list | tuple) and len(reply) > 1 and isinstance(reply[1], int) else 0
