"""What the API says of a refusal, through the real SDK: how long it lasts, and whether it is a spend cap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import msgspec
import pytest

from carpool_worker.claude.client import Claude
from carpool_worker.exceptions import ClaudeError
from carpool_worker.policies.retries import SPEND_LIMIT_REACHED

DATE = "Sun, 22 Nov 2026 12:00:00 GMT"


@contextmanager
def answering(headers: dict[str, str], body: Any) -> Iterator[str]:
    """Yield the URL of a server that answers every call with this 429."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = msgspec.json.encode(body)
            self.send_response_only(429)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def refusal(monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], body: Any) -> ClaudeError:
    with answering(headers, body) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-simulated")
        claude = Claude()
        with pytest.raises(ClaudeError) as caught:
            claude.newest({}, 1)
        claude.close()
    return caught.value


def error(**fields: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "rate_limit_error", "message": "no", **fields}}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Date": DATE, "Retry-After": "Sun, 22 Nov 2026 12:02:00 GMT"}, 120.0),
        ({"Date": DATE, "Retry-After": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"Date": "Sun, 22 Nov 999999999999 12:00:00 GMT", "Retry-After": "7"}, 7.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
    ],
)
def test_it_lasts_as_long_as_its_retry_after_says_by_the_clock_of_its_own_date(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], seconds: float | None
) -> None:
    refused = refusal(monkeypatch, headers, error())

    assert (refused.status, refused.kind, refused.certain) == (429, "rate_limit_error", True)
    assert (refused.retry_after, refused.error_code) == (seconds, None)


@pytest.mark.parametrize(
    "body",
    [
        error(details={"error_code": SPEND_LIMIT_REACHED}),
        {**error(), "details": {"error_code": SPEND_LIMIT_REACHED}},
        {**error(details={"error_code": SPEND_LIMIT_REACHED}), "details": None},
    ],
)
def test_a_spend_cap_is_told_by_its_error_code(monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    refused = refusal(monkeypatch, {}, body)

    assert (refused.error_code, refused.retry_after) == (SPEND_LIMIT_REACHED, None)


@pytest.mark.parametrize(
    "body",
    [
        error(details=None),
        error(details=[SPEND_LIMIT_REACHED]),
        error(details={"error_code": 7}),
        error(details={"error_code": {}}),
        {"error": SPEND_LIMIT_REACHED},
        {},
        [],
        "busy",
        None,
    ],
)
def test_a_429_whose_details_say_something_else_has_no_error_code(
    monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    assert refusal(monkeypatch, {}, body).error_code is None
