"""The webhook channel over real HTTP: signatures that a foreign library verifies, and receivers that misbehave."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError
from tests.fixtures.deliveries import WEBHOOK_SECRET, webhook_settings
from tests.fixtures.webhooks import Names, outgoing, send
from tests.pipeline.delivery.hostile import hostile

from carpool.webhooks import sign
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.pipeline.delivery.channels.post import ANSWER_BYTES
from carpool_worker.pipeline.delivery.channels.webhook import WebhookChannel
from carpool_worker.policies.deliveries import Event, Sent

NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
STRANGE = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)


def test_the_body_is_the_specifications_and_its_signature_verifies(receiver: Any) -> None:
    # When
    [sent] = send(outgoing(receiver.url("/in")))

    # Then
    assert sent == Sent(Event.ANSWERED, "thanks", 200)
    [(headers, body)] = receiver.posts["/in"]
    assert Webhook(WEBHOOK_SECRET).verify(body, headers) == {
        "type": "request.completed",
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {"id": "1", "message": {"text": "hé"}},
    }
    assert headers["webhook-id"] == "a" * 32
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert headers["Content-Type"] == "application/json"


def test_signatures_are_those_of_the_specifications_test_vector() -> None:
    # Given
    at = datetime.fromtimestamp(1614265330, UTC)

    # When
    headers = sign(b'{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek", WEBHOOK_SECRET, at)

    # Then
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_rotated_receivers_with_either_verify(receiver: Any) -> None:
    # When
    send(outgoing(receiver.url("/in")), webhook_secret=f"{NEW},{WEBHOOK_SECRET}")

    # Then
    [(headers, body)] = receiver.posts["/in"]
    for secret in (NEW, WEBHOOK_SECRET):
        Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(STRANGE).verify(body, headers)


def test_nothing_is_sent_unsigned(receiver: Any) -> None:
    [sent] = send(outgoing(receiver.url("/in")), webhook_secret=[])
    assert sent.event is Event.DEFERRED
    assert receiver.posts == {}


def test_a_secret_that_is_none_is_reported_without_showing_it() -> None:
    with pytest.raises(SettingsInvalid, match="CARPOOL_WEBHOOK_SECRET") as raised:
        send(webhook_secret="whsec_a")
    assert "whsec_a" not in str(raised.value)


def test_a_redirect_is_not_followed(receiver: Any) -> None:
    # Given
    receiver.answer("/moved", 307, {"Location": receiver.url("/elsewhere")})

    # When
    [sent] = send(outgoing(receiver.url("/moved")))

    # Then
    assert sent.status == 307
    assert "/elsewhere" not in receiver.posts


def test_retry_after_is_read(receiver: Any) -> None:
    receiver.answer("/slow", 429, {"Retry-After": "120"})
    [sent] = send(outgoing(receiver.url("/slow")))
    assert (sent.status, sent.retry_after) == (429, 120.0)


def test_a_large_body_is_sent_whole(receiver: Any) -> None:
    answer = msgspec.json.encode({"text": "x" * 3_000_000})
    [sent] = send(outgoing(receiver.url("/in"), answer))
    [(headers, body)] = receiver.posts["/in"]
    assert sent.status == 200
    assert Webhook(WEBHOOK_SECRET).verify(body, headers)["data"] == {"text": "x" * 3_000_000}


def test_a_hanging_receiver_is_left_after_the_timeout(receiver: Any) -> None:
    # Given
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    receiver.answers["/hanging"] = hang

    # When
    [sent] = send(outgoing(receiver.url("/hanging")), webhook_timeout=0.3)

    # Then
    assert sent == Sent(Event.FAILED, "no answer within 0.3 s")


def test_of_a_dripping_or_endless_answer_only_the_start_is_read(receiver: Any) -> None:
    # Given
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 100_000)
            await asyncio.sleep(0.01)

    receiver.answers["/endless"] = drip

    # When
    [sent] = send(outgoing(receiver.url("/endless")))

    # Then
    assert (sent.status, sent.detail) == (200, "x" * ANSWER_BYTES)


def test_a_receiver_that_accepts_and_then_hangs_has_accepted(receiver: Any) -> None:
    # Given
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=202)
        await response.prepare(request)
        await asyncio.sleep(30)
        return response

    receiver.answers["/half"] = half

    # When
    [sent] = send(outgoing(receiver.url("/half")), webhook_timeout=0.3)

    # Then
    assert (sent.event, sent.status) == (Event.ANSWERED, 202)


def test_a_receiver_that_is_away_is_a_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    [sent] = send(outgoing(f"http://127.0.0.1:{port}/"))
    assert sent.event is Event.FAILED


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_private_addresses_are_refused_before_anything_is_sent(receiver: Any, host: str, scheme: str) -> None:
    # When
    [sent] = send(outgoing(f"{scheme}://{host}:{receiver.port}/in"), webhook_allowed_networks=[])

    # Then
    assert sent.event is Event.REFUSED
    assert receiver.posts == {}


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0x7f000001", "127.1", "0177.0.0.1", "017700000001", "127.0.0.1."]
)
def test_odd_spellings_of_loopback_reach_nothing(receiver: Any, host: str) -> None:
    [sent] = send(outgoing(f"http://{host}:{receiver.port}/in"), webhook_allowed_networks=[])
    assert sent.event is not Event.ANSWERED
    assert receiver.posts == {}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_public_name_that_resolves_to_a_private_address_is_refused(receiver: Any, scheme: str) -> None:
    # When
    url = f"{scheme}://public.example.com:{receiver.port}/in"
    [sent] = send(outgoing(url), names=Names("127.0.0.1", "10.0.0.1"), webhook_allowed_networks=[])

    # Then
    assert sent.event is Event.REFUSED
    assert receiver.posts == {}


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_name_with_a_private_address_too_only_the_public_one_is_tried(receiver: Any, order: int) -> None:
    """Here 127.0.0.2 stands for what is public, where nothing listens, and 127.0.0.1 for what is private."""
    # When
    names = Names(*["127.0.0.2", "127.0.0.1"][::order])
    url = receiver.url("/in", host="both.example.com")
    [sent] = send(outgoing(url), names=names, webhook_allowed_networks=["127.0.0.2/32"])

    # Then: the receiver is away, which may pass, and nothing went to the private address
    assert sent.event is Event.FAILED
    assert receiver.posts == {}


def test_a_name_that_is_private_the_second_time_is_refused_then(receiver: Any) -> None:
    # Given
    names = Names("127.0.0.1")
    url = receiver.url("/in", host="rebinding.example.com")

    async def run() -> list[Sent]:
        async with WebhookChannel(webhook_settings(), names) as channel:
            first = await channel.send(outgoing(url))
            names.addresses = ("10.0.0.1",)
        async with WebhookChannel(webhook_settings(), names) as channel:
            return [first, await channel.send(outgoing(url))]

    # When
    first, second = asyncio.run(run())

    # Then
    assert (first.event, second.event) == (Event.ANSWERED, Event.REFUSED)
    assert len(receiver.posts["/in"]) == 1


def test_what_a_resolver_let_through_is_refused_when_its_socket_is_made(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(
        "carpool_worker.pipeline.delivery.channels.targets.permitted",
        lambda addresses, allowed, public: addresses,
    )

    # When
    url = receiver.url("/in", host="public.example.com")
    [sent] = send(outgoing(url), names=Names("127.0.0.1"), webhook_allowed_networks=[])

    # Then
    assert (sent.event, receiver.posts) == (Event.REFUSED, {})


def test_a_redirect_to_a_private_address_is_not_followed_either(receiver: Any) -> None:
    # Given
    receiver.answer("/moved", 302, {"Location": "http://169.254.169.254/latest/meta-data/"})

    # When
    [sent] = send(outgoing(receiver.url("/moved")))

    # Then
    assert (sent.event, sent.status) == (Event.ANSWERED, 302)


@pytest.mark.parametrize(
    "path", ["/a%2Fb", "/%7Euser", "/a/../b", "/x?q=%2B+%20&r=a%2Cb", "/%C3%A9?q=%e9", "/a//b"]
)
def test_the_path_is_sent_as_the_client_wrote_it(path: str) -> None:
    # Given
    lines = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    # When
    with hostile(keep) as server:
        send(outgoing(server.url(path)))

    # Then
    assert lines == [f"POST {path} HTTP/1.1\r\n".encode()]


def test_other_alphabets_in_a_url_are_encoded(receiver: Any) -> None:
    send(outgoing(receiver.url("/caf\u00e9")))
    assert list(receiver.posts) == ["/caf\u00e9"]


@pytest.mark.parametrize("part", ["user:secret@", "billing@", ":@"])
def test_a_url_with_a_user_or_a_password_is_refused(receiver: Any, part: str) -> None:
    [sent] = send(outgoing(f"http://{part}127.0.0.1:{receiver.port}/in"))
    assert (sent.event, receiver.posts) == (Event.REFUSED, {})


@pytest.mark.parametrize("text", ["/a\r\nX-Evil: 1", "/a b", "/a\tb", "/a\0"])
def test_a_url_with_spaces_or_control_characters_is_refused(receiver: Any, text: str) -> None:
    [sent] = send(outgoing(receiver.url(text)))
    assert (sent.event, receiver.posts) == (Event.REFUSED, {})


def test_tries_have_one_id_and_a_new_timestamp_and_signature_each() -> None:
    # When
    first, second = (
        sign(b"{}", "a" * 32, WEBHOOK_SECRET, NOW + timedelta(seconds=seconds)) for seconds in (0, 5)
    )

    # Then
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 5
    assert first["webhook-signature"] != second["webhook-signature"]


def test_a_name_that_resolves_into_an_allowed_network_is_reached(receiver: Any) -> None:
    [sent] = send(outgoing(receiver.url("/in", host="inside.example.com")), names=Names("127.0.0.1"))
    assert sent.status == 200


def test_plain_http_to_a_public_address_is_refused() -> None:
    [sent] = send(outgoing("http://public.example.com/"), names=Names("8.8.8.8"))
    assert sent.event is Event.REFUSED
    assert "plain http" in str(sent.detail)


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "https://", "http:///x", "nonsense", "https://[::1/", "https://a:99999/"]
)
def test_what_is_no_url_for_webhooks_is_refused(url: str) -> None:
    [sent] = send(outgoing(url))
    assert sent.event is Event.REFUSED


def test_beside_a_simulator_nothing_leaves_the_machine_and_no_public_name_is_looked_up(receiver: Any) -> None:
    # Given names that are looked up, and settings that allow webhooks to loopback only
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    urls = (
        "https://billing.example.com/claude",
        "https://93.184.216.34/x",
        receiver.url("/in", "app.localhost"),
    )
    channel = WebhookChannel(webhook_settings(webhook_public=False), resolve)

    async def post() -> list[Sent]:
        async with channel:
            return [await channel.send(outgoing(url)) for url in urls]

    # When webhooks to the world and to this machine are sent
    public, address, here = asyncio.run(post())

    # Then only the latter arrives, and the former say why
    assert here.status == 200
    assert public.event is address.event is Event.REFUSED
    assert "CARPOOL_WEBHOOK_PUBLIC is false" in str(public.detail)
    assert asked == ["app.localhost"]
