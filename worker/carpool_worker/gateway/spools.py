"""Takes the bodies of creates of batches: to disk as they arrive, checked, with little of them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, TypeVar

from carpool_worker.batch_bodies.spool import MAX_BODY_BYTES, BodyRefused, BodySpool
from carpool_worker.gateway.bodies import chunks
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.errors import GatewayError
from carpool_worker.pipeline.batching.spooled_creates import ParamsChecks, SpooledCreate

BLOCK_BYTES = 1_000_000
"""Checked at a time, in a thread: a few milliseconds of work."""

T = TypeVar("T")


async def receive(call: Call, file: BinaryIO, digest: Callable[[bytes], None]) -> SpooledCreate:
    """Take a create's body into a file, and check it; `digest` gets all of it, in parts.

    Raises:
        GatewayError: it is too large, too slow, or breaks a rule of the API.
    """
    checks = ParamsChecks(call.key.allows_model)
    spool = BodySpool(file, checks.see)

    def take(block: bytes) -> None:
        digest(block)
        spool.feed(block)

    async for block in _blocks(call):
        await in_thread(take, block)
    try:
        return SpooledCreate(file, await in_thread(spool.finish), checks)
    except BodyRefused as error:
        raise GatewayError(400, str(error)) from None


async def in_thread(act: Callable[..., T], *arguments: object) -> T:
    """Run something in a thread, and come back only when it is done, even if the caller hangs up meanwhile.

    What it works with may be closed then.
    """
    running = asyncio.get_running_loop().run_in_executor(None, act, *arguments)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def _blocks(call: Call) -> AsyncIterator[bytes]:
    pieces: list[bytes] = []
    waiting = 0
    async for piece in chunks(call.request, MAX_BODY_BYTES):
        pieces.append(piece)
        waiting += len(piece)
        if waiting >= BLOCK_BYTES:
            yield b"".join(pieces)
            pieces, waiting = [], 0
    yield b"".join(pieces)
