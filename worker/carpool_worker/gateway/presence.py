"""Shows the other gateways that this one lives, and what it is doing.

It listens on a channel on which nothing is said. When its process dies, the kernel ends that connection at once, so a
retry of a call that it held is adopted without waiting for a lease to run out (see claim_scripts.py).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from socket import gethostname

from redis.exceptions import RedisError

from carpool.contract import to_json
from carpool.options import SOCKET
from carpool.packer import Command
from carpool.redis_url import connect_async
from carpool_worker.coordination.keys import GATEWAY_ALIVE, GATEWAY_STATUS, GATEWAYS
from carpool_worker.database import now
from carpool_worker.gateway.claim_scripts import ADOPTABLE_SECONDS
from carpool_worker.gateway.state import Gateway
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

BEAT_SECONDS = 3.0
STATUS_SECONDS = 15
"""How long what it does is known after its last beat."""

RECONNECT_SECONDS = 0.1
"""Less than what other gateways wait before they take it for dead."""

LISTEN_SECONDS = 5.0


class Presence:
    """The signs of life of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._listening = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Return once the others can see this gateway, or Redis is away."""
        await self._beat()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._listen_always()), loop.create_task(self._beat_always())]
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTEN_SECONDS):
                await self._listening.wait()

    async def close(self) -> None:
        """Leave: this gateway holds no calls any more.

        Where Redis still takes some for held, it is left to find this gateway dead, so that they can be adopted.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._gateway.claims.has_untold:
            return
        id_ = self._gateway.id
        with suppress(RedisError):
            await self._gateway.redis.execute([("ZREM", GATEWAYS, id_), ("DEL", GATEWAY_STATUS + id_)])

    async def _beat_always(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._beat()

    async def _beat(self) -> None:
        gateway, at = self._gateway, now()
        status = to_json(
            {
                "host": gethostname(),
                "held": gateway.held,
                "most_held": gateway.settings.gateway_most_held,
                "answered": {str(status): count for status, count in gateway.answered.items()},
            }
        )
        commands: list[Command] = [
            ("ZADD", GATEWAYS, at, gateway.id),
            ("ZREMRANGEBYSCORE", GATEWAYS, "-inf", at - 2_000 * ADOPTABLE_SECONDS),
            ("SET", GATEWAY_STATUS + gateway.id, status, "EX", STATUS_SECONDS),
        ]
        try:
            await gateway.redis.execute(commands)
        except RedisError as error:
            log.warning("gateway can't reach redis", error=type(error).__name__)

    async def _listen_always(self) -> None:
        options = self._gateway.options
        while True:
            client = connect_async(options.url, options.key_prefix, **SOCKET)
            try:
                async with client.pubsub() as channel:
                    await channel.subscribe(options.key_prefix + GATEWAY_ALIVE + self._gateway.id)
                    while True:
                        await channel.get_message(timeout=LISTEN_SECONDS)
                        self._listening.set()
            except (RedisError, OSError):
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                await client.aclose()
