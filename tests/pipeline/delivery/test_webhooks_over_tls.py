"""Webhooks over real TLS: who is trusted, and HTTP/2 where the receiver offers it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config
from standardwebhooks import Webhook
from tests.fixtures.deliveries import WEBHOOK_SECRET
from tests.fixtures.webhooks import Names, outgoing, send

from carpool_worker.policies.deliveries import Event

NAME = "receiver.example.com"


class TlsReceiver:
    """An ASGI application behind hypercorn, in a thread; keeps the version, headers and body of each post."""

    def __init__(self, certificate: Path, protocols: list[str]) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self._config = Config()
        self._config.certfile = self._config.keyfile = str(certificate)
        self._config.alpn_protocols = protocols
        self._config.loglevel = "CRITICAL"
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._config.bind = [f"fd://{listener.detach()}"]
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/in%2F1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        await serve(self._application, self._config, shutdown_trigger=self._over.wait)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.posts.append((f"{scope['http_version']} {scope['raw_path'].decode()}", headers, body))
        await send({"type": "http.response.start", "status": 429, "headers": [(b"retry-after", b"7")]})
        await send({"type": "http.response.body", "body": b"x" * 3_000})


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that is trusted as the system's are."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Any]:
    """Return a function that starts a receiver with a certificate of this authority for this name."""
    open_ones: list[TlsReceiver] = []

    def start(authority: trustme.CA, name: str = NAME, protocols: tuple[str, ...] = ("h2",)) -> TlsReceiver:
        pem = tmp_path / f"{len(open_ones)}.pem"
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(pem)
        open_ones.append(TlsReceiver(pem, list(protocols)))
        return open_ones[-1]

    yield start
    for one in open_ones:
        one.close()


@pytest.mark.parametrize(("protocols", "version"), [(("h2", "http/1.1"), "2"), (("http/1.1",), "1.1")])
def test_http_2_is_spoken_where_it_is_offered(
    authority: trustme.CA, serving: Any, protocols: tuple[str, ...], version: str
) -> None:
    # Given
    receiver = serving(authority, protocols=protocols)

    # When: twice, over one connection
    large = b'{"text":"' + b"y" * 300_000 + b'"}'
    sent = send(outgoing(receiver.url), outgoing(receiver.url, large), names=Names("127.0.0.1"))

    # Then
    assert [(one.status, one.retry_after, one.detail) for one in sent] == [(429, 7.0, "x" * 1_024)] * 2
    assert [line for line, *_ in receiver.posts] == [f"{version} /in%2F1"] * 2
    for _, headers, body in receiver.posts:
        Webhook(WEBHOOK_SECRET).verify(body, headers)


def test_an_authority_that_nobody_trusts_is_a_failure(authority: trustme.CA, serving: Any) -> None:
    receiver = serving(trustme.CA())
    [sent] = send(outgoing(receiver.url), names=Names("127.0.0.1"))
    assert sent.event is Event.FAILED
    assert "certificate" in str(sent.detail)
    assert receiver.posts == []


def test_a_certificate_for_another_name_is_a_failure(authority: trustme.CA, serving: Any) -> None:
    receiver = serving(authority, "other.example.com")
    [sent] = send(outgoing(receiver.url), names=Names("127.0.0.1"))
    assert sent.event is Event.FAILED
    assert receiver.posts == []
