"""Receivers that misbehave: real sockets, one way of behaving each."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

DRIP = 0.1
"""Seconds between two bytes: many more bytes follow than any timeout lasts."""

PIECE = b"x" * 65_536
OK = b"HTTP/1.1 200 OK\r\n"


class Hostile:
    """One receiver on a free port of 127.0.0.1; counts connections, and the bytes that it got rid of."""

    def __init__(self, behave: Behaviour) -> None:
        self.connections = 0
        self.written = 0
        self._behave = behave
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        self._started.wait(10)

    def url(self, path: str = "/in", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._over.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        write = writer.write

        def counted(data: bytes) -> None:
            self.written += len(data)
            write(data)

        writer.write = counted  # type: ignore[method-assign, assignment]
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._behave(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()


@contextmanager
def hostile(behave: Behaviour) -> Iterator[Hostile]:
    """Run one."""
    server = Hostile(behave)
    try:
        yield server
    finally:
        server.close()


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def drip_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"X-Slow: ")
    await _drip(writer)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"Content-Length: 1000000\r\n\r\n")
    await _drip(writer)


async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _read_post(reader)
    writer.write(b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(60)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _read_post(reader)
    writer.write(b"HTTP/1.1 200 O")
    await writer.drain()
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def huge_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _read_post(reader)
    writer.write(OK + b"Content-Length: 1000000000\r\n\r\n")
    await _flood(writer, PIECE)


async def huge_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"X-Huge: ")
    await _flood(writer, PIECE)


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    await _flood(writer, b"X-Many: 1\r\n" * 5_000)


async def endless_interim_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _flood(writer, b"HTTP/1.1 102 Processing\r\n\r\n" * 2_500)


async def endless_chunk_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n1;ext=")
    await _flood(writer, PIECE)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _flood(writer, bytes(range(256)) * 256)


async def _read_post(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(DRIP)


async def _flood(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)
