"""Receives a create's body block by block and writes it to disk; other calls are answered in between."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import StreamReader

from carpool_worker.batch_bodies.spool import MAX_BODY_BYTES, BodyRefused, BodySpool, Spooled
from carpool_worker.simulator.errors import ApiError, invalid

BLOCK_BYTES = 256_000  # a millisecond of work


async def receive(content: StreamReader, path: Path) -> Spooled:
    """Write the body to the path; return what is on disk; raise ApiError."""
    with path.open("w+b", buffering=0) as file:
        spool = BodySpool(file)
        async for block in _blocks(content):
            spool.feed(block)
        try:
            return await asyncio.to_thread(spool.finish)
        except BodyRefused as error:
            raise invalid(str(error)) from None


async def _blocks(content: StreamReader) -> AsyncIterator[bytes]:
    """Yield what arrives in blocks: large enough to be read fast, small enough not to keep other calls waiting."""
    pieces: list[bytes] = []
    waiting = total = 0
    async for piece in content.iter_any():
        pieces.append(piece)
        waiting, total = waiting + len(piece), total + len(piece)
        if total > MAX_BODY_BYTES:
            raise ApiError(413, "Request exceeds the maximum size")
        if waiting >= BLOCK_BYTES:
            yield b"".join(pieces)
            pieces, waiting = [], 0
    yield b"".join(pieces)
