"""Small real proxies on 127.0.0.1: CONNECT over HTTP, and SOCKS5 with names."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import suppress

REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


class ConnectProxy:
    """Opens tunnels to one port of this machine, whatever name is asked for; a Behaviour of a hostile receiver."""

    def __init__(self, port: int, credentials: str = "", refuses: bool = False) -> None:
        self.asked: list[bytes] = []
        self._port = port
        self._expected = b"basic " + b64encode(credentials.encode()) if credentials else b""
        self._refuses = refuses

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0])
        if self._refuses or self._expected.lower() not in head.lower():
            writer.write(REFUSED)
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _tunnel(reader, writer, self._port)


class SocksProxy:
    """The same by SOCKS5 (RFC 1928); keeps the names that it was given to resolve."""

    def __init__(self, port: int) -> None:
        self.asked: list[bytes] = []
        self._port = port

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")  # no authentication
        _, _, _, kind = await reader.readexactly(4)
        assert kind == 3  # a name
        [length] = await reader.readexactly(1)
        self.asked.append(await reader.readexactly(length))
        await reader.readexactly(2)  # the port
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await _tunnel(reader, writer, self._port)


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
    finally:
        target.close()
