"""Sends a sample delivery to a webhook, as a courier sends real ones: signed, and to no address that is not allowed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

import sqlalchemy as sa

from carpool_worker.operations.copies import sample
from carpool_worker.outside_text import cleaned
from carpool_worker.pipeline.delivery.channels.webhook import WebhookChannel
from carpool_worker.pipeline.delivery.claims import own_secrets
from carpool_worker.policies.deliveries import Sent
from carpool_worker.settings import Settings
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND

log = get_logger(__name__)

EVENT = "request.completed"
LONGEST_ANSWER = 200


@dataclass(frozen=True)
class SampleSent:
    """What the receiver answered, and the start of it; a status of None: why no answer came."""

    status: int | None
    detail: str
    milliseconds: int

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


def send_sample(engine: sa.Engine, settings: Settings, url: str, client: str, *, actor: str) -> SampleSent:
    """Post a sample of a completed request to a URL, once; no table knows of it. It is signed for this client."""
    start = monotonic()
    sent = asyncio.run(_send(engine, settings, url, client))
    milliseconds = round((monotonic() - start) * SECOND)
    log.info("sample delivery sent by operator", actor=actor, status=sent.status)
    return SampleSent(sent.status, cleaned(sent.detail or "", LONGEST_ANSWER), milliseconds)


async def _send(engine: sa.Engine, settings: Settings, url: str, client: str) -> Sent:
    letter = sample(EVENT, client, {"sample": True})._replace(target=url)
    async with WebhookChannel(settings, own_secrets=own_secrets(engine)) as channel:
        return await channel.send(letter)
