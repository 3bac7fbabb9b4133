"""A receiver of webhooks that costs as little as it can: it counts bodies by their length and answers 200."""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import trustme
from tests.bench import places

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Counting(asyncio.Protocol):
    """One keep-alive connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.head = b""
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        if self.missing:
            self._body(len(data))
            return
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end >= 0:
            length = LENGTH.search(self.head)
            self.missing = int(length[1]) if length else 0
            rest, self.head = len(self.head) - end - 4, b""
            self._body(rest)

    def _body(self, received: int) -> None:
        self.missing -= received
        if self.missing <= 0:
            self.missing = 0
            self.transport.write(ANSWER)


async def _serve(ready: Connection, certificate: Path | None) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(Counting, "127.0.0.1", 0, ssl=context)
    ready.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _run(ready: Connection, certificate: Path | None) -> None:
    asyncio.run(_serve(ready, certificate))


@contextmanager
def receiving(certificate: Path | None = None) -> Iterator[int]:
    """Run the receiver in a process of its own, over TLS with this certificate and key; its port."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, certificate), daemon=True)
    process.start()
    theirs.close()  # a child that dies is noticed so
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def over_either_scheme() -> Iterator[tuple[str, str]]:
    """Yield "http" and then "https", each with the URL of a receiver in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="carpool-bench-") as folder:
        certificate, authority = Path(folder) / "receiver.pem", Path(folder) / "authority.pem"
        _issue(certificate, authority)
        # Where OpenSSL looks for the authorities that the system trusts, and so Python's ssl.
        with places.environment(SSL_CERT_FILE=str(authority)):
            for scheme in ("http", "https"):
                with receiving(certificate if scheme == "https" else None) as port:
                    yield scheme, f"{scheme}://127.0.0.1:{port}/claude"


def _issue(certificate: Path, authority: Path) -> None:
    """Make an authority, and a key with its certificate for 127.0.0.1."""
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(authority)
    issued = issuer.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
