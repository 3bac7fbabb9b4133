"""The submitter against real HTTP: what is posted, when, how often, and what follows from each refusal."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.queries import answer_bodies

from carpool import Producer
from carpool.contract import to_json
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import now
from carpool_worker.exceptions import ClaudeError
from carpool_worker.simulator import Fault, RemoteSimulator


def given_a_sealed_batch(carpool: Carpool, producer: Producer, requests: int = 2, **options: Any) -> str:
    producer.enqueue_many([request(f"Grüße {n} \u2028") for n in range(requests)], **options)
    carpool.aggregate()
    return str(carpool.rows("SELECT id FROM batches ORDER BY id DESC")[0].id)


def batch(carpool: Carpool) -> Any:
    return carpool.rows("SELECT * FROM batches ORDER BY id")[0]


class Wire:
    """A real HTTP server that keeps what is posted byte for byte, and answers a page of HTML or an empty list."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        wire = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(
                    b'{"data":[],"has_more":false,"first_id":null,"last_id":null}', "application/json"
                )

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                wire.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self._answer(b"<html>Welcome to the hotel's network</html>", "text/html")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, carpool: Carpool) -> Iterator[Wire]:
    wire = Wire()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{wire.server.server_port}")
    carpool.claude = Claude()
    yield wire
    carpool.claude.close()
    wire.close()


def test_the_body_has_the_producers_bytes_and_an_unreadable_answer_is_a_doubt(
    carpool: Carpool, producer: Producer, wire: Wire
) -> None:
    batch_id = given_a_sealed_batch(carpool, producer, 2, betas=["output-300k-2026-03-24"])

    submitted = carpool.submit_batch(batch_id)

    [(headers, body)] = wire.posts
    ids = [row.id for row in carpool.rows("SELECT id FROM requests ORDER BY id")]
    items = [
        b'{"custom_id":"%b","params":%b}' % (id_.encode(), to_json(request(f"Grüße {n} \u2028")))
        for n, id_ in enumerate(ids)
    ]
    assert body == b'{"requests":[' + b",".join(items) + b"]}"
    assert headers["content-length"] == str(len(body))
    assert "transfer-encoding" not in headers
    assert headers["content-type"] == "application/json"
    assert headers["anthropic-beta"] == "output-300k-2026-03-24"
    assert submitted
    assert submitted.state == "submitting"
    assert batch(carpool).in_doubt_at


class Watching(Claude):
    """Reads the table at the moment of the post."""

    def __init__(self, carpool: Carpool) -> None:
        super().__init__()
        self._carpool = carpool
        self.saw: list[Any] = []

    def create(self, *arguments: Any) -> RemoteBatch:
        self.saw.append(self._carpool.rows("SELECT * FROM batches"))
        return super().create(*arguments)


def test_the_intent_is_committed_before_the_first_byte_leaves(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a workspace that has a batch
    carpool.submit_batch(given_a_sealed_batch(carpool, producer))
    [newest] = carpool.claude.list_newest({})
    batch_id = given_a_sealed_batch(carpool, producer)
    watching = Watching(carpool)

    carpool.submit_batch(batch_id, watching)
    watching.close()

    [[saw]] = [[row for row in rows if row.id == batch_id] for rows in watching.saw]
    assert (saw.state, saw.submissions, saw.in_doubt_at) == ("submitting", 1, None)
    assert saw.cursor_id == newest.id


def test_of_submitters_at_once_one_posts(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_sealed_batch(carpool, producer)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: carpool.submit_batch(batch_id), range(4)))

    assert [one.state for one in done if one] == ["in_progress"]
    assert len(list(carpool.claude.list_newest({}))) == 1


@pytest.mark.parametrize(
    ("fault", "at_least", "at_most"),
    [
        (Fault(operation="create", kind="error", status=429, retry_after=1_000), 1_000, 1_000),
        (Fault(operation="create", kind="error", status=429, retry_after=90_000), 3_600, 3_600),
        (Fault(operation="create", kind="error", status=529), 4, 6),
        (Fault(operation="list", kind="error", status=500), 4, 6),
        (Fault(operation="list", kind="error", status=501), 4, 6),
    ],
    ids=lambda value: f"{value.operation}-{value.status}" if isinstance(value, Fault) else str(value),
)
def test_a_refused_batch_is_sealed_and_waits_as_long_as_it_should(
    carpool: Carpool,
    producer: Producer,
    simulator: RemoteSimulator,
    fault: Fault,
    at_least: int,
    at_most: int,
) -> None:
    batch_id = given_a_sealed_batch(carpool, producer)
    simulator.arm(fault)
    before = now()

    submitted = carpool.submit_batch(batch_id)

    assert submitted
    assert submitted.state == batch(carpool).state == "sealed"
    assert str(fault.status) in batch(carpool).last_error
    assert before + at_least * 1_000 <= batch(carpool).due_at <= now() + at_most * 1_000
    assert carpool.submit_batch(batch_id) is None


@pytest.mark.parametrize("requests", [1, 3])
def test_where_the_list_is_a_page_of_html_nothing_is_posted_and_it_says_so(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, requests: int
) -> None:
    batch_id = given_a_sealed_batch(carpool, producer, requests)
    simulator.arm(Fault(operation="list", kind="page", times=2))

    # When it is tried, even twice, Then it waits, and nothing was made
    for _ in range(2):
        carpool.forget_waiting()
        submitted = carpool.submit_batch(batch_id)
        assert submitted
        assert (submitted.state, batch(carpool).in_doubt_at) == ("sealed", None)
        assert "no list" in batch(carpool).last_error
        assert batch(carpool).due_at > now()
    assert simulator.ledger()["batches"] == 0

    # When the list is one again, Then it goes
    carpool.until(lambda: carpool.ended(requests))
    assert simulator.ledger()["ran_twice"] == []


@pytest.mark.parametrize("kind", ["lost", "dropped", "error_after", "error"])
def test_a_post_whose_answer_says_nothing_certain_is_in_doubt_and_not_repeated(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, kind: Any
) -> None:
    batch_id = given_a_sealed_batch(carpool, producer)
    simulator.arm(Fault(operation="create", kind=kind, status=500))

    submitted = carpool.submit_batch(batch_id)
    assert carpool.submit_batch(batch_id) is None
    carpool.go_round()

    assert submitted
    assert submitted.state == batch(carpool).state == "submitting"
    assert batch(carpool).in_doubt_at
    assert len(list(carpool.claude.list_newest({}))) == (kind in ("lost", "error_after"))


def test_offline_nothing_is_in_doubt(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        claude = Claude()
        batch_id = given_a_sealed_batch(carpool, producer)

        submitted = carpool.submit_batch(batch_id, claude)
        claude.close()

    assert submitted
    assert (submitted.state, batch(carpool).in_doubt_at) == ("sealed", None)


def test_without_a_key_the_batch_waits_and_the_log_says_so(
    carpool: Carpool,
    producer: Producer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    claude = Claude()
    batch_id = given_a_sealed_batch(carpool, producer)

    with caplog.at_level(logging.ERROR):
        submitted = carpool.submit_batch(batch_id, claude)
    claude.close()

    assert submitted
    assert (submitted.state, batch(carpool).in_doubt_at) == ("sealed", None)
    assert "lane paused by carpool" in caplog.text


@pytest.mark.parametrize("status", [400, 413])
def test_a_request_that_is_rejected_alone_is_discarded_with_the_error_and_delivered(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, status: int
) -> None:
    simulator.arm(Fault(operation="create", kind="error", status=status, message="no such thing"))
    producer.enqueue(request("SECRET"), callback={"kind": "webhook", "url": "http://127.0.0.1:9/"})  # type: ignore[arg-type]
    carpool.aggregate()

    submitted = carpool.submit_batch(batch(carpool).id)

    assert submitted
    assert (submitted.state, batch(carpool).state) == ("rejected", "rejected")
    [row] = carpool.rows("SELECT state, outcome FROM requests")
    [body] = answer_bodies(carpool.engine).values()
    assert (row.state, row.outcome) == ("discarded", "errored")
    assert json.loads(body)["error"]["error"]["message"] == f"{status} {error_type(status)}: no such thing"
    assert carpool.rows("SELECT state FROM deliveries") == [("available",)]


def error_type(status: int) -> str:
    return {400: "invalid_request_error", 413: "request_too_large"}[status]


class Slow(Claude):
    """Fails for certain, but after somebody else has sent the batch again."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def create(self, *arguments: Any) -> RemoteBatch:
        self._meanwhile()
        raise ClaudeError("429 rate_limit_error", status=429)


def test_a_late_refusal_does_not_put_back_what_is_posted_again_already(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    batch_id = given_a_sealed_batch(carpool, producer)

    def the_rescuer_gave_it_up_and_its_next_post_began() -> None:
        carpool.change("UPDATE batches SET submissions = 2")

    slow = Slow(the_rescuer_gave_it_up_and_its_next_post_began)
    assert carpool.submit_batch(batch_id, slow) is None
    slow.close()

    assert batch(carpool).state == "submitting"


class Failing(Claude):
    """Fails before the post, after it has called `meanwhile`."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def newest(self, *arguments: Any) -> list[RemoteBatch]:
        self._meanwhile()
        raise ClaudeError("529 overloaded_error", status=529)


def test_a_late_failure_to_ask_says_nothing_about_a_batch_that_another_has_posted(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a submitter that is slow to ask, while another posts the batch
    batch_id = given_a_sealed_batch(carpool, producer)
    asked = Failing(lambda: carpool.submit_batch(batch_id))

    # When it fails, Then the batch is as the other has left it
    assert carpool.submit_batch(batch_id, asked) is None
    asked.close()
    assert (batch(carpool).state, batch(carpool).submissions) == ("in_progress", 1)
    assert (batch(carpool).due_at, batch(carpool).last_error) == (0, None)
