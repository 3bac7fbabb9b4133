"""Whatever an API, a relay or a proxy answers, each call ends as a value or as a ClaudeError: no agent stops at it."""

from __future__ import annotations

import gzip
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import Credentials
from carpool_worker.claude.fence import Fence
from carpool_worker.exceptions import ClaudeError, ResultsCut

BODY = b'{"requests": []}\n'
DEEP = 30_000
"""Levels: more than Python's own reader of JSON follows."""


class Answering:
    """An HTTP server that answers every call in the same way."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, dict[str, str](), b""
        one = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(one.status)
                for name, value in one.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(one.body)))
                self.end_headers()
                self.wfile.write(one.body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.do_GET()

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def api() -> Iterator[Answering]:
    api = Answering()
    yield api
    api.close()


@pytest.fixture(scope="module")
def claude(api: Answering) -> Iterator[Claude]:
    address = f"http://127.0.0.1:{api.server.server_port}"
    claude = Claude(credentials=Credentials(api_key="sk-ant-simulated", base_url=address))
    yield claude
    claude.close()


CALLS: dict[str, Callable[[Claude], Any]] = {
    "create": lambda claude: claude.create(io.BytesIO(BODY), len(BODY), {}, Fence(60)),
    "retrieve": lambda claude: claude.retrieve("msgbatch_1", {}),
    "cancel": lambda claude: claude.cancel("msgbatch_1", {}),
    "newest": lambda claude: claude.newest({}, 5),
    "list": lambda claude: list(claude.list_newest({})),
    "results": lambda claude: list(claude.results("msgbatch_1", {})),
}


def failure(claude: Claude, call: str) -> ClaudeError | ResultsCut | None:
    """Make the call; return how it failed, in the one of the two ways that its caller knows."""
    try:
        CALLS[call](claude)
    except (ClaudeError, ResultsCut) as error:
        return error
    return None


def nested(opening: bytes, closing: bytes) -> bytes:
    return opening * DEEP + closing * DEEP


BODIES = {
    "nothing": b"",
    "a page": b"<html>\xff\xfe</html>",
    "null": b"null",
    "arrays in arrays": nested(b"[", b"]"),
    "objects in objects": nested(b'{"data":', b"}").replace(b":}", b":1}"),
    "a list of numbers": b'{"data": [1, null, "x"], "has_more": true}',
    "a list that is none": b'{"data": {"a": 1}, "has_more": false}',
    "an id that is a list": b'{"id": ["msgbatch_1"], "type": "message_batch"}',
    "an id that cuts a character": b'{"id": "msgbatch_\\ud800"}',
    "counts that are text": b'{"id": "msgbatch_1", "request_counts": "many", "processing_status": {}}',
    "times without end": b'{"id": "msgbatch_1", "created_at": "9999-99-99", "expires_at": 1e400}',
    "an error over lines": json.dumps({"error": {"message": "a\0\ud800"}}, indent=1).encode(),
    "a deep error": b'{"error": {"message": ' + nested(b"[", b"]") + b"}}",
}

REFUSED = {302, 307, 400, 404, 429}
"""Of the statuses here, those after which nothing was done."""


@pytest.mark.parametrize("status", [200, 204, 400, 404, 429, 500])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_no_body_stops_a_call(api: Answering, claude: Claude, status: int, body: bytes) -> None:
    api.status, api.body = status, b"" if status == 204 else body
    api.headers = {"content-type": "application/json"}

    failures = {call: failure(claude, call) for call in CALLS}

    # Then a refusal is one whatever its text, and what else a post has done is not known where that can't be read
    made = failures["create"]
    assert made is None or made.certain == (status in REFUSED)  # type: ignore[union-attr]
    assert {one.status for one in failures.values() if isinstance(one, ClaudeError)} <= {status, None}


HEADERS: dict[str, dict[str, str]] = {
    "a location that is no URL": {"location": "http://[::1"},
    "a location with an odd port": {"location": "https://elsewhere.example.com:port/v1"},
    "an empty location": {"location": ""},
    "what is not zipped": {"content-encoding": "gzip"},
    "an encoding that nobody knows": {"content-encoding": "lzw"},
    "a character set that nobody knows": {"content-type": "application/json; charset=klingon"},
    "times that are none": {"date": "tomorrow", "retry-after": "soon"},
    "numbers without end": {"retry-after": "1e400", "anthropic-ratelimit-requests-remaining": "-1e400"},
    "an organization of another alphabet": {"anthropic-organization-id": "\xe9\x80"},
}


@pytest.mark.parametrize("status", [200, 302, 307, 429, 503])
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_no_header_stops_a_call(api: Answering, claude: Claude, status: int, headers: dict[str, str]) -> None:
    api.status, api.headers, api.body = status, headers, b'{"data": []}'

    for call in CALLS:
        error = failure(claude, call)
        if status != 200:
            assert isinstance(error, ClaudeError)
            assert (error.status, error.certain) == (status, status in REFUSED)


@pytest.mark.parametrize("status", [*REFUSED, 500])
def test_a_refusal_whose_text_is_cut_short_is_one(status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as received:
                while not received.readline().startswith(BODY):
                    pass
                connection.sendall(b"HTTP/1.1 %d No\r\ncontent-length: 99\r\n\r\n{" % status)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        claude = Claude(credentials=Credentials(api_key="sk-ant-simulated", base_url=address))
        error = failure(claude, "create")
        claude.close()
        thread.join()

    assert isinstance(error, ClaudeError)
    assert (error.status, error.certain) == (status, status in REFUSED)


def test_bytes_by_chance_stop_no_call(api: Answering, claude: Claude) -> None:
    names = st.sampled_from(["id", "data", "error", "message", "type", "request_counts", "created_at"])
    json_like = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(
        st.sampled_from(list(CALLS)),
        st.sampled_from([200, 307, 400, 404, 500]),
        st.binary(max_size=99) | json_like,
        st.booleans(),
    )
    @example("results", 200, gzip.compress(b"{}" * 99)[:-4], True)
    def attack(call: str, status: int, body: bytes, is_zipped: bool) -> None:
        api.status, api.body = status, body
        api.headers = {"content-encoding": "gzip"} if is_zipped else {}
        failure(claude, call)

    attack()
