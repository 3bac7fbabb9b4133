"""carpool.Anthropic and carpool.AsyncAnthropic: the SDK's clients, through a gateway, which a server here plays."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import anthropic
import httpx2
import pytest

import carpool

MESSAGE = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Hi."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
PARAMS: Any = {
    "model": "claude-haiku-4-5",
    "max_tokens": 64_000,  # more than the SDK allows itself without a timeout of its own
    "messages": [{"role": "user", "content": "Hello"}],
}
TOO_MANY = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too many"}}

Answer = Callable[[BaseHTTPRequestHandler], None]


class PlayedGateway(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, else with a Message; keeps the headers of all."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Played)
        self.headers: list[dict[str, str]] = []
        self.answers: list[Answer] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def keys(self) -> list[str | None]:
        return [headers.get("idempotency-key") for headers in self.headers]


class _Played(BaseHTTPRequestHandler):
    server: PlayedGateway

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        answer = self.server.answers.pop(0) if self.server.answers else of_json(200, MESSAGE)
        answer(self)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def of_json(status: int, body: Any, **headers: str) -> Answer:
    """Answer with this JSON; an underscore in a header's name is a dash."""

    def answer(played: BaseHTTPRequestHandler) -> None:
        encoded = json.dumps(body).encode()
        played.send_response(status)
        for name, value in {**headers, "content_type": "application/json"}.items():
            played.send_header(name.replace("_", "-"), value)
        played.send_header("content-length", str(len(encoded)))
        played.end_headers()
        played.wfile.write(encoded)

    return answer


def cut_after_the_first_space(played: BaseHTTPRequestHandler) -> None:
    """Begin an answer of 1,000 bytes, as the gateway does while it holds a call, and end the connection."""
    played.send_response(200)
    played.send_header("content-type", "application/json")
    played.send_header("content-length", "1000")
    played.end_headers()
    played.wfile.write(b" ")
    played.close_connection = True


@pytest.fixture
def gateway() -> Iterator[PlayedGateway]:
    with PlayedGateway() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CARPOOL_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "cr_test")


@pytest.fixture
def client(gateway: PlayedGateway) -> Iterator[carpool.Anthropic]:
    with carpool.Anthropic(base_url=gateway.url) as connected:
        yield connected


def test_the_gateway_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://two.example.com/relay")
    assert address() == "http://two.example.com/relay"
    monkeypatch.setenv("CARPOOL_URL", "http://one.example.com")
    assert address() == "http://one.example.com"
    assert address(base_url="http://given.example.com") == "http://given.example.com"


def address(**options: Any) -> str:
    with carpool.Anthropic(**options) as client:
        return str(client.base_url).rstrip("/")


@pytest.mark.parametrize("kind", [carpool.Anthropic, carpool.AsyncAnthropic])
def test_without_an_address_there_is_no_client(kind: Callable[[], object]) -> None:
    # Its calls would go to Anthropic itself, and cost twice as much
    with pytest.raises(carpool.InvalidSetting, match="CARPOOL_URL or ANTHROPIC_BASE_URL: must be set"):
        kind()


def test_it_is_the_sdks_own_client(client: carpool.Anthropic) -> None:
    assert isinstance(client, anthropic.Anthropic)
    assert issubclass(carpool.AsyncAnthropic, anthropic.AsyncAnthropic)
    assert inspect.signature(carpool.Anthropic) == inspect.signature(anthropic.Anthropic)
    assert client.batches is client.messages.batches
    assert client.timeout == 24 * 60 * 60


def test_each_call_has_a_key_of_its_own_which_its_repeats_send_too(
    client: carpool.Anthropic, gateway: PlayedGateway
) -> None:
    # Given a call that is refused once
    gateway.answers = [of_json(529, {}, retry_after_ms="1")]

    # When
    client.messages.create(**PARAMS)
    client.messages.create(**PARAMS)

    # Then
    first, repeat, second = gateway.keys()
    assert first is not None
    assert repeat == first
    assert second not in (first, None)


def test_a_key_of_the_caller_takes_its_place(client: carpool.Anthropic, gateway: PlayedGateway) -> None:
    client.messages.create(**PARAMS, extra_headers={"Idempotency-Key": "invoice-42"})
    assert gateway.keys() == ["invoice-42"]


def test_the_true_error_of_a_call_that_was_cut_off_comes_with_its_repeat(
    client: carpool.Anthropic, gateway: PlayedGateway
) -> None:
    gateway.answers = [cut_after_the_first_space, of_json(400, TOO_MANY)]
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: too many"):
        client.messages.create(**PARAMS)
    first, repeat = gateway.keys()
    assert repeat == first
    assert gateway.headers[1]["x-stainless-retry-count"] == "1"


def test_copies_with_other_options_behave_in_the_same_way(
    client: carpool.Anthropic, gateway: PlayedGateway
) -> None:
    gateway.answers = [cut_after_the_first_space]
    with client.with_options(timeout=httpx2.Timeout(7.0)) as patient:
        assert type(patient) is carpool.Anthropic
        assert patient.timeout == httpx2.Timeout(7.0)
        assert patient.messages.create(**PARAMS).id == "msg_01"
    first, repeat = gateway.keys()
    assert repeat == first is not None


async def _created(gateway: PlayedGateway) -> list[str]:
    async with carpool.AsyncAnthropic(base_url=gateway.url) as client:
        assert client.timeout == 24 * 60 * 60
        assert client.batches is client.messages.batches
        return [(await client.messages.create(**PARAMS)).id for _ in range(2)]


def test_the_asynchronous_client_does_the_same(gateway: PlayedGateway) -> None:
    gateway.answers = [cut_after_the_first_space]
    assert asyncio.run(_created(gateway)) == ["msg_01", "msg_01"]
    first, repeat, second = gateway.keys()
    assert repeat == first
    assert second not in (first, None)


def run(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_the_sdk_is_loaded_when_a_client_is_first_used() -> None:
    code = """
import sys, carpool
from carpool import *
before = "anthropic" in sys.modules
carpool.Anthropic
print(before, "anthropic" in sys.modules, "AsyncAnthropic" in dir(carpool))
"""
    assert run(code) == "False True True"


def test_without_the_sdk_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["anthropic"] = None  # as if it were not installed
import carpool
try:
    from carpool import Anthropic
except ImportError as error:
    print(error)
"""
    assert run(code) == "carpool.Anthropic needs Anthropic's SDK: pip install 'carpool[anthropic]'"


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Antropic'"):
        carpool.Antropic  # type: ignore[attr-defined]  # noqa: B018
