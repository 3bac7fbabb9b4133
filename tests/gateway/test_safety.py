"""What strangers send: it is refused with a status, in bounded time and memory, and nothing of it is logged."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from aiohttp.test_utils import make_mocked_request
from tests.fixtures.agents import request
from tests.fixtures.gateway import RunGateway, WorkingCarpool, new_key
from tests.fixtures.gateway_calls import Reply, begun, call, get, post
from tests.fixtures.waiting import until

from carpool_worker.gateway import bodies, connections, key_cache, messages
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.forwarded import PREFIX, public_url
from carpool_worker.gateway.state import Gateway
from carpool_worker.operations import keys
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.settings import Settings, read_settings

BODY = json.dumps(request()).encode()
MANY_BYTES = bodies.MAX_MESSAGE_BYTES + 1


def connect(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=20)


def talk(url: str, sent: bytes) -> bytes:
    """Send bytes, and return all that comes until the gateway closes the connection."""
    with connect(url) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def head(secret: str, *headers: str) -> bytes:
    lines = ["POST /v1/messages HTTP/1.1", "Host: here", f"x-api-key: {secret}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def read(answer: bytes) -> Reply:
    """Read an answer as it came over the wire."""
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    named = dict(line.lower().split(": ", 1) for line in lines)
    return Reply(int(first.split()[1]), named, body)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/messages HTTP/1.1\r\nHost: he"])
def test_headers_that_never_end_end_the_connection(
    run_gateway: RunGateway, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    with run_gateway() as url:
        begin = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert talk(url, sent) == b""
        assert time.monotonic() - begin < 10


def test_a_dribble_of_headers_does_not_put_the_end_off(
    run_gateway: RunGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    with run_gateway() as url, connect(url) as slow:
        slow.sendall(b"POST /v1/messages HTTP/1.1\r\n")

        def is_ended() -> bool:
            try:
                slow.sendall(b"x-a: b\r\n")
            except OSError:
                return True
            return False

        until(is_ended, within=10)


def test_headers_after_an_answer_have_the_same_limit(
    run_gateway: RunGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    with run_gateway() as url, connect(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HT")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(65_536) == b""


def test_a_body_that_comes_too_slowly_is_refused(
    run_gateway: RunGateway, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "UPLOAD_SECONDS", 0.3)
    with run_gateway() as url:
        reply = read(talk(url, head(secret, "Content-Length: 1000") + b'{"model":'))

    assert (reply.status, reply.error_type) == (408, "timeout_error")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(gateway: str, secret: str) -> None:
    reply = read(talk(gateway, head(secret, f"Content-Length: {MANY_BYTES}")))

    assert (reply.status, reply.error_type) == (413, "request_too_large")


def test_a_body_without_a_length_is_counted_as_it_comes(gateway: str, secret: str) -> None:
    chunk = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
    with connect(gateway) as connection:
        connection.sendall(head(secret, "Transfer-Encoding: chunked"))
        try:
            for _ in range(40):
                connection.sendall(chunk)
        except OSError:
            pass  # it has answered, and closed
        connection.settimeout(10)
        try:
            answer = connection.recv(65_536)
        except ConnectionResetError:
            return
    assert read(answer).status == 413


def test_a_gzip_bomb_is_counted_unpacked(gateway: str, secret: str) -> None:
    bomb = gzip.compress(b" " * MANY_BYTES, compresslevel=1)
    assert len(bomb) < 500_000

    reply = call(gateway, secret, "POST", "/v1/messages", bomb, {"content-encoding": "gzip"})

    assert (reply.status, reply.error_type) == (413, "request_too_large")


def test_a_packed_body_is_read(gateway: str, secret: str, working_carpool: WorkingCarpool) -> None:
    packed = {"content-encoding": "gzip", "accept-encoding": "gzip"}

    reply = call(gateway, secret, "POST", "/v1/messages", gzip.compress(BODY), packed)

    assert reply.status == 200
    assert "content-encoding" not in reply.headers  # and answers are not packed


@pytest.mark.parametrize(
    "sent",
    [
        head("", *(f"x-{n}: y" for n in range(200))),
        head("", f"x-long: {'y' * 9_000}"),
        b"GET /" + b"y" * 9_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["many headers", "a long header", "a long path", "TLS", "nonsense"],
)
def test_what_is_no_call_is_refused_in_the_apis_form(gateway: str, sent: bytes) -> None:
    reply = read(talk(gateway, sent))

    assert (reply.status, reply.error_type) == (400, "invalid_request_error")
    assert reply.json["request_id"] == reply.headers["request-id"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"text"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(gateway: str, secret: str, body: bytes) -> None:
    assert post(gateway, secret, body).status == 400


def test_what_there_is_not_is_a_404_in_the_apis_form(gateway: str, secret: str) -> None:
    assert get(gateway, secret, "/v1/files").error_type == "not_found_error"
    refused = get(gateway, secret, "/v1/messages")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")


def test_a_revoked_key_is_refused_within_five_seconds(
    gateway: str, secret: str, gateway_engine: sa.Engine
) -> None:
    assert post(gateway, secret, prefer="respond-async").status == 202

    keys.revoke(gateway_engine, "tests", actor="tests")

    assert key_cache.FRESH_SECONDS < 5
    assert until(lambda: post(gateway, secret, prefer="respond-async").status == 401)


def test_a_key_without_the_scope_is_refused(gateway: str, gateway_engine: sa.Engine) -> None:
    other = new_key(gateway_engine, name="usage", scopes=["usage"])

    assert (post(gateway, other).status, post(gateway, other).error_type) == (403, "permission_error")


def test_a_key_has_its_models_and_no_others(gateway: str, gateway_engine: sa.Engine) -> None:
    small = new_key(gateway_engine, name="small", models=["claude-haiku-*"])

    refused = post(gateway, small, request(model="claude-opus-4-5"))

    assert (refused.status, refused.error_type) == (403, "permission_error")
    assert refused.headers["x-should-retry"] == "false"
    assert post(gateway, small, prefer="respond-async").status == 202


def test_a_key_has_so_many_requests_a_minute(gateway: str, gateway_engine: sa.Engine) -> None:
    slow = new_key(gateway_engine, name="slow", requests_a_minute=2)

    first, second, third = (post(gateway, slow, prefer="respond-async") for _ in range(3))

    name = "anthropic-ratelimit-requests"
    assert [first.status, second.status, third.status] == [202, 202, 429]
    assert [reply.headers[f"{name}-remaining"] for reply in (first, second, third)] == ["1", "0", "0"]
    assert third.headers[f"{name}-limit"] == "2"
    resets = [datetime.fromisoformat(reply.headers[f"{name}-reset"]) for reply in (first, second, third)]
    assert datetime.now(UTC) < resets[0] < resets[1] < datetime.now(UTC) + timedelta(seconds=61)
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert "requests_a_minute" in third.json["error"]["message"]


def test_a_key_holds_so_many_calls(
    gateway: str, gateway_engine: sa.Engine, idle_carpool: WorkingCarpool
) -> None:
    narrow = new_key(gateway_engine, name="narrow", most_held=1)
    with begun(gateway, narrow, "POST", "/v1/messages", BODY):
        until(lambda: idle_carpool.queued() == 1)

        refused = post(gateway, narrow, request("Another"))

    assert (refused.status, refused.error_type) == (429, "rate_limit_error")
    assert "most_held" in refused.json["error"]["message"]
    # And once the first has hung up there is room again
    until(lambda: post(gateway, narrow, prefer="respond-async").status == 202)


def test_a_gateway_holds_so_many_calls(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool
) -> None:
    with run_gateway(gateway_most_held=1) as url, begun(url, secret, "POST", "/v1/messages", BODY):
        until(lambda: idle_carpool.queued() == 1)

        refused = post(url, secret)

        assert (refused.status, refused.error_type) == (529, "overloaded_error")
        assert 1 <= int(refused.headers["retry-after"]) <= 30


def test_a_full_inbox_is_a_529_and_the_call_works_once_there_is_room(
    gateway: str, secret: str, idle_carpool: WorkingCarpool
) -> None:
    idle_carpool.redis.set("carpool:{0}:queued", 1_000_000)

    refused = post(gateway, secret)
    idle_carpool.redis.set("carpool:{0}:queued", 0)

    assert (refused.status, refused.error_type) == (529, "overloaded_error")
    assert "x-should-retry" not in refused.headers
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert post(gateway, secret, prefer="respond-async").status == 202


def test_without_redis_it_says_so_and_is_not_ready(
    run_gateway: RunGateway, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_gateway(redis_url="redis://127.0.0.1:1/0") as url:
        refused, unready = post(url, secret), get(url, "", "/readyz")

        assert (refused.status, unready.status) == (503, 503)
        assert "Redis can't be reached" in refused.json["error"]["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert unready.json["missing"] == ["redis"]
        assert get(url, "", "/healthz").status == 200


def test_without_the_database_it_says_so_and_is_not_ready(
    run_gateway: RunGateway, secret: str, gateway_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: Any, **keywords: Any) -> None:
        raise sa.exc.OperationalError("connect", None, OSError("refused"))

    with run_gateway() as url:
        monkeypatch.setattr(gateway_engine, "connect", away)
        refused, unready = post(url, secret), get(url, "", "/readyz")

    assert (refused.status, unready.status) == (503, 503)
    assert "The database can't be reached" in refused.json["error"]["message"]
    assert unready.json["missing"] == ["database"]


def test_no_answer_names_what_it_was_made_with(gateway: str, secret: str) -> None:
    accepted = post(gateway, secret, prefer="respond-async")
    others = [get(gateway, secret, path) for path in ("/healthz", "/v1/nowhere")]

    assert {reply.headers["server"] for reply in (accepted, *others)} == {"carpool"}
    assert b"server: carpool" in talk(gateway, b"nonsense\r\n\r\n").lower()


def test_an_error_that_nobody_expected_is_a_500_that_quotes_nothing(
    run_gateway: RunGateway, secret: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError(f"the prompt was {BODY!r}")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(messages, "read_headers", fail)
    with run_gateway() as url:
        reply = post(url, secret)

    assert (reply.status, reply.error_type) == (500, "api_error")
    assert b"Hello" not in reply.body
    assert "RuntimeError" in caplog.text
    assert "Hello" not in caplog.text


def test_neither_keys_nor_prompts_are_logged(
    run_gateway: RunGateway, secret: str, working_carpool: WorkingCarpool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with run_gateway() as url:
        post(url, secret, request("PRIVATE"))
        post(url, secret, b'{"PRIVATE": ')
        post(url, f"{secret}x", request("PRIVATE"))
        get(url, secret, "/v1/PRIVATE?PRIVATE=1")

    assert secret not in caplog.text
    assert "PRIVATE" not in caplog.text


def test_no_page_of_another_origin_may_call_unless_it_is_listed(run_gateway: RunGateway, secret: str) -> None:
    ours, asks = "https://app.example.com", {"Access-Control-Request-Method": "POST"}
    with run_gateway(gateway_origins=[ours]) as url:
        allowed = call(url, "", "OPTIONS", "/v1/messages", headers=asks | {"Origin": ours})
        refused = call(url, "", "OPTIONS", "/v1/messages", headers=asks | {"Origin": "https://evil.example"})
        read_by_ours = get(url, "", "/healthz", origin=ours)
        read_by_others = get(url, "", "/healthz", origin="https://evil.example")

    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (204, ours)
    assert refused.status == 405
    assert read_by_ours.headers["access-control-allow-origin"] == ours
    assert not [
        name for reply in (refused, read_by_others) for name in reply.headers if "access-control" in name
    ]


@pytest.mark.parametrize(
    ("settings", "headers", "expected"),
    [
        ({}, {}, "http://here"),
        ({}, {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}, "http://here"),
        (
            {"gateway_trusted_proxies": "10.0.0.0/8"},
            {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
            "http://here",
        ),
        (
            {"gateway_trusted_proxies": "127.0.0.0/8"},
            {"X-Forwarded-Host": "evil.example, ours.example", "X-Forwarded-Proto": "http, https"},
            "https://ours.example",
        ),
        ({"gateway_public_url": "https://ours.example/"}, {"Host": "evil.example"}, "https://ours.example"),
    ],
)
def test_only_listed_proxies_say_under_which_url_the_gateway_is_known(
    settings: dict[str, str], headers: dict[str, str], expected: str
) -> None:
    class Known:
        def __init__(self, settings: Settings) -> None:
            self.settings = settings

    asked = make_mocked_request("GET", "/", {"Host": "here"} | headers).clone(remote="127.0.0.1")
    asked[PREFIX] = "/claude"
    gateway = cast(Gateway, Known(read_settings(**settings)))

    assert public_url(Call(asked, cast(GatewayKey, None), gateway)) == f"{expected}/claude"


def test_a_caller_that_leaves_in_the_middle_of_its_body_leaves_nothing(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool
) -> None:
    with run_gateway(gateway_most_held=1) as url:
        with connect(url) as connection:
            connection.sendall(head(secret, "Content-Length: 1000") + b'{"model":')
        until(lambda: post(url, secret, prefer="respond-async").status == 202)

    assert idle_carpool.queued() == 1
