"""Whatever a callback's URL is, and whatever its receiver answers: the courier records the outcome and carries on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import celery
import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.fixtures.agents import Carpool, request
from tests.fixtures.deliveries import WEBHOOK_SECRET
from tests.fixtures.webhooks import Names, outgoing
from tests.pipeline.fuzzing import fuzzed

from carpool import InvalidRequest, Producer, Webhook, callbacks
from carpool_worker.database import write
from carpool_worker.pipeline.delivery import courier
from carpool_worker.pipeline.delivery.addresses import TargetRefused
from carpool_worker.pipeline.delivery.channels.webhook import WebhookChannel
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.settings import read_settings
from carpool_worker.store.deliveries.receivers import host_and_port

hosts = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(min_codepoint=0x80), max_size=6),
    st.sampled_from(
        [
            *(
                "example.com",
                "EXAMPLE.com.",
                "xn--a",
                "xn--",
                "ex%61mple.com",
                "a" * 300,
                "a..b",
                "-",
                "_x.com",
                "％",
            ),
            *(
                "127.1",
                "0x7f.1",
                "2130706433",
                "1.2.3.4.5",
                "256.1.1.1",
                "0",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "[::1",
            ),
            *(
                "[fe80::1%25eth0]",
                "[v1.a]",
                "[]",
                "[1.2.3.4]",
                "ß.de",
                "☃.net",
                "a\u200db.com",
                "１２７.0.0.1",
            ),
        ]
    ),
)
urls = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["https://", "http://", "HTTPS://", "https:", "//", "ftp://", ""])
        | st.text(max_size=4),
        st.sampled_from(["", "", "", "user@", "user:secret@", "@", ":@"]),
        hosts,
        st.sampled_from(["", "", ":", ":0", ":443", ":65536", ":٣", ":-1", ":a"]),
        st.text(max_size=12)
        | st.sampled_from(["/%", "/%zz", "/%00", "/%ff", "/a%2Fb", "?q=%", "#%", "/\ud800", "/\\"]),
    ),
)


class Closed:
    """Makes no socket, so that no test reaches a host of the world."""

    def __call__(self, *_: Any) -> socket.socket:
        raise TargetRefused


def test_a_url_that_is_accepted_is_decided_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carpool_worker.pipeline.delivery.channels.post.open_socket", Closed())
    settings = read_settings(
        webhook_secret=WEBHOOK_SECRET, webhook_allowed_networks="127.0.0.0/8", webhook_timeout=5
    )

    async def decide(url: str) -> Sent:
        async with WebhookChannel(settings, Names("127.0.0.1")) as channel:
            assert isinstance(host_and_port(url), str)
            return await channel.send(outgoing(url))

    @fuzzed(300)
    @given(urls)
    def attack(url: str) -> None:
        try:
            callbacks.encode(Webhook(url), allow_http=True)
        except InvalidRequest as refused:
            field = refused.field
            assert field == "callback.url"
            return
        assert asyncio.run(decide(url)).event in (Event.REFUSED, Event.FAILED)

    attack()


class Garbled:
    """A TCP server that answers every request with the same bytes, whatever they are, and hangs up."""

    def __init__(self) -> None:
        self.answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):  # a courier that has read enough hangs up
                connection.settimeout(5)
                _read_request(connection)
                connection.sendall(self.answer)


def _read_request(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += _more(connection)


def _more(connection: socket.socket) -> bytes:
    """Raises ConnectionError where the other side has hung up."""
    if not (received := connection.recv(65_536)):
        raise ConnectionError
    return received


@pytest.fixture
def garbled() -> Iterator[Garbled]:
    server = Garbled()
    yield server
    server.close()


statuses = st.integers(0, 999).map(lambda status: b"HTTP/1.1 %03d X" % status) | st.sampled_from(
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 2000 X",
        b"HTTP/9.9 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 -20 X",
        b"\x16\x03\x01",
    ]
)
retry_after = st.text(st.characters(max_codepoint=0xFF), max_size=20) | st.sampled_from(
    [
        "9" * 400,
        "-1",
        "1e9",
        "nan",
        "Mon, 99999999999 Jan 2020 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
    ]
)
headers = st.lists(
    st.one_of(
        retry_after.map(lambda value: b"Retry-After: " + value.encode("latin-1")),
        st.binary(max_size=20),
        st.sampled_from(
            [
                b"Content-Length: 9999",
                b"Content-Length: -1",
                b"Transfer-Encoding: chunked",
                b"Content-Encoding: gzip",
            ]
        ),
        st.just(b"X: " + b"x" * 70_000),
        st.just(b"Content-Type: text/plain; charset=\xff"),
    ),
    max_size=3,
)
bodies = st.binary(max_size=50) | st.sampled_from(
    [b"\0" * 2_000, b"zz\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"\xff" * 3_000]
)
answers = st.binary(max_size=30) | st.builds(
    lambda status, fields, body: b"\r\n".join([status, *fields, b"", body]), statuses, headers, bodies
)


_FRESH = (
    "UPDATE deliveries SET state = 'available', attempt = 0, due_at = 0, delivered_at = NULL, discarded_at = NULL, "
    "pending = 1, delivered = 0, progress = NULL, progress_at = NULL WHERE "
)
AVAILABLE = (
    _FRESH + "position >= 0",
    _FRESH + "position < 0 AND NOT EXISTS (SELECT 1 FROM deliveries AS own WHERE own.position >= 0)",
    "DELETE FROM parked_receivers",
    "DELETE FROM endpoints",
)
"""As if it had never been tried."""


def test_whatever_a_receiver_answers_is_recorded(
    carpool: Carpool, producer: Producer, garbled: Garbled
) -> None:
    # Given an answer that is to be delivered
    producer.enqueue(request(), callback=Webhook(garbled.url))
    carpool.until(lambda: carpool.ended(1))
    secret = {
        "webhook_secret": WEBHOOK_SECRET,
        "webhook_allowed_networks": "127.0.0.0/8",
        "webhook_timeout": 5,
    }
    settings = read_settings(**secret)
    app = celery.Celery(broker="memory://")

    @fuzzed(40)
    @given(answers)
    def attack(answer: bytes) -> None:
        # When
        garbled.answer = answer
        with write(carpool.engine) as connection:
            for statement in AVAILABLE:
                connection.exec_driver_sql(statement)
        [(before,)] = carpool.rows("SELECT count(*) FROM delivery_attempts")
        courier.deliver(carpool.engine, app, settings)

        # Then it was taken at once, or its try and what follows from it have rows of their own
        [(after,)] = carpool.rows("SELECT count(*) FROM delivery_attempts")
        [(apart,)] = carpool.rows("SELECT count(*) FROM deliveries WHERE position >= 0")
        states = {
            state for (state,) in carpool.rows("SELECT state FROM deliveries WHERE pending + delivered > 0")
        }
        assert states in ({"delivered"}, {"retryable"}, {"discarded"})
        assert after - before == (apart > 0)

    attack()
