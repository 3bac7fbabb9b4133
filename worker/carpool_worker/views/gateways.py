"""The gateways, as they show themselves in Redis: what each holds and has answered, and which of them died."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis

from carpool_worker.coordination.keys import GATEWAY_STATUS, GATEWAYS
from carpool_worker.database import now
from carpool_worker.units import SECOND

DEAD_SECONDS = 30.0
"""A gateway that has not been heard of for so long is dead; it beats every 3 seconds."""

REMEMBERED_SECONDS = 3_600.0
"""How long a dead one is shown. One that ended as it should is not."""


@dataclass(frozen=True)
class GatewayView:
    """One gateway; a dead one holds nothing."""

    id: str
    silent_seconds: float
    host: str = ""
    held: int = 0
    most_held: int = 0
    answered: Mapping[str, int] = field(default_factory=dict)  # by status, since its start

    @property
    def is_alive(self) -> bool:
        """Whether it has been heard of lately."""
        return self.silent_seconds < DEAD_SECONDS

    @property
    def name(self) -> str:
        """Its host, and what tells it from others there."""
        return f"{self.host or 'unknown'}:{self.id[-8:]}"


class _Shown(msgspec.Struct):
    host: str = ""
    held: int = 0
    most_held: int = 0
    answered: dict[str, int] = {}


_decode = msgspec.json.Decoder(_Shown).decode


def read_gateways(server: redis.Redis) -> list[GatewayView]:
    """Return the gateways that live, and those that died within the hour.

    Raises:
        RedisError.
    """
    at = now()
    known: Any = server.zrange(
        GATEWAYS, at - round(REMEMBERED_SECONDS * SECOND), "+inf", byscore=True, withscores=True
    )
    if not known:
        return []
    with server.pipeline(transaction=False) as pipeline:
        for id_, _ in known:
            pipeline.get(GATEWAY_STATUS + id_.decode())
        shown: list[Any] = pipeline.execute()
    return [
        _view(id_.decode(), (at - beat_at) / SECOND, status)
        for (id_, beat_at), status in zip(known, shown, strict=True)
    ]


def _view(id_: str, silent: float, status: bytes | None) -> GatewayView:
    if status is None:
        return GatewayView(id_, max(silent, 0.0))
    found = _decode(status)
    return GatewayView(id_, max(silent, 0.0), found.host, found.held, found.most_held, found.answered)
