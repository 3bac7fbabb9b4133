"""Results come from the address that the key is for, whatever an answer says, and the key goes nowhere else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.fixtures.agents import request
from tests.fixtures.waiting import until

from carpool_worker.claude.client import Claude
from carpool_worker.claude.fence import Fence
from carpool_worker.exceptions import ClaudeError
from carpool_worker.simulator import SimulatorOptions, running


class Elsewhere:
    """An address that the key is not for: it keeps every header that comes, and may redirect."""

    def __init__(self, location: str | None = None) -> None:
        self.asked: list[dict[str, str]] = []
        other = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                other.asked.append(dict(self.headers))
                self.send_response(200 if location is None else 307)
                if location is not None:
                    self.send_header("location", location)
                self.send_header("content-length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def serving(one: Elsewhere) -> Iterator[Elsewhere]:
    with one.server as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield one
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def client(monkeypatch: pytest.MonkeyPatch, url: str) -> Iterator[Claude]:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-simulated")
    claude = Claude()
    yield claude
    claude.close()


def posted(claude: Claude) -> str:
    """The id of a batch that has ended."""
    body = json.dumps({"requests": [{"custom_id": "a", "params": request()}]}).encode()
    made = claude.create(io.BytesIO(body), len(body), {}, Fence(60))
    until(lambda: claude.retrieve(made.id, {}).processing_status == "ended")
    return made.id


def test_results_come_from_the_base_url_whatever_results_url_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(Elsewhere()) as elsewhere,
        running(SimulatorOptions(data=tmp_path, results_origin=elsewhere.url)) as simulator,
        client(monkeypatch, simulator.url) as claude,
    ):
        [line] = claude.results(posted(claude), {})

    assert json.loads(line)["custom_id"] == "a"
    assert elsewhere.asked == []


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        serving(Elsewhere()) as elsewhere,
        serving(Elsewhere(elsewhere.url + "/v1")) as relay,
        client(monkeypatch, relay.url) as claude,
    ):
        for call in (
            lambda: list(claude.results("msgbatch_x", {})),
            lambda: claude.newest({}, 1),
            lambda: claude.retrieve("msgbatch_x", {}),
            lambda: claude.create(io.BytesIO(b"{}"), 2, {}, Fence(60)),
        ):
            with pytest.raises(ClaudeError, match=r"moved to http://127\.0\.0\.1: not followed") as caught:
                call()
            assert (caught.value.status, caught.value.certain) == (307, True)

    assert len(relay.asked) == 4
    assert elsewhere.asked == []


def test_an_id_stays_a_part_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Elsewhere()) as relay, client(monkeypatch, relay.url) as claude:
        assert list(claude.results("../../evil?x=", {})) == []

    assert len(relay.asked) == 1
