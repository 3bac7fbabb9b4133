"""The webhook channel alone, plain and over TLS, against bare aiohttp posts of as many bytes.

A rate here is a core's: posts by the CPU seconds of this process. The body is made and signed within.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tests.bench import bare
from tests.bench.courier import BODY, CONNECTIONS, post_bare
from tests.bench.rows import Row, at_least
from tests.bench.webhook_receiver import over_either_scheme
from tests.fixtures.deliveries import webhook_settings
from tests.fixtures.webhooks import outgoing

from carpool.contract import to_json
from carpool_worker.pipeline.delivery.channels.webhook import WebhookChannel

COUNT = 20_000
AIMS = {"http": 25_000.0, "https": 14_000.0}
"""Posts a second a core: what leaves room for SQL below the aims of whole deliveries."""

STAGES = {"http": "webhook channel, plain", "https": "webhook channel, TLS"}


def run(count: int) -> Iterator[Row]:
    """Post `count` answers to a receiver in its own process, over either scheme."""
    for scheme, url in over_either_scheme():
        yield _measure(scheme, url, count)


def _measure(scheme: str, url: str, count: int) -> Row:
    cpu = time.process_time()
    seconds = bare.timed(lambda: asyncio.run(_post(url, count)))
    cpu = time.process_time() - cpu
    bare_seconds = bare.timed(lambda: asyncio.run(post_bare(url, count)))
    what = "aiohttp posts of as many bytes"
    a_core = at_least(count / cpu, AIMS[scheme], "/s a core")
    return Row(STAGES[scheme], "", count, seconds, what, bare_seconds, cpu={"channel": cpu}, aims=(a_core,))


async def _post(url: str, count: int) -> None:
    posted = outgoing(url, to_json({"text": BODY.decode()}))
    waiting = iter(range(count))

    async def post(channel: WebhookChannel) -> None:
        for _ in waiting:
            sent = await channel.send(posted)
            if sent.status != 200:
                raise AssertionError(sent)

    async with WebhookChannel(webhook_settings()) as channel:
        await asyncio.gather(*(post(channel) for _ in range(CONNECTIONS)))
