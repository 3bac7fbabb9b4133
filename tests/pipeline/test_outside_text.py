"""No text of the API, a relay or a receiver keeps anything from being recorded, on either database."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from tests.fixtures.agents import Carpool, request
from tests.fixtures.clients import Edited
from tests.fixtures.queries import answer_bodies, request_states

from carpool import Producer, Webhook
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import read
from carpool_worker.exceptions import ClaudeError
from carpool_worker.outside_text import cleaned
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.requests.answers import load_answers

HOOK = Webhook("http://127.0.0.1:9/hook")
NASTY = ["a\0b", "cut \ud83d", "\ude00 cut", "\x1b[31mred", "\x9b31m", "x" * 100_000, "\ud83d\ude00", "\r\n"]


@given(st.text(st.characters(codec=None), max_size=60), st.integers(3, 50))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_cleaned_text_is_short_and_can_be_stored_and_is_otherwise_as_it_was(text: str, limit: int) -> None:
    clean = cleaned(text, limit)

    assert len(clean) <= limit
    assert "\0" not in clean
    assert clean.encode().decode() == clean
    assert cleaned(clean, limit) == clean
    if text.isprintable() and len(text) <= limit:
        assert clean == text


def test_two_halves_of_a_character_become_it() -> None:
    assert cleaned("\ud83d\ude00 \ud83d", 10) == "😀 \ufffd"
    assert cleaned("tab\tand\nline", 20) == "tab\tand\nline"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_with_a_cut_text_stays_a_refusal(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, status: int
) -> None:
    producer.enqueue(request("SECRET"), callback=HOOK)
    carpool.aggregate()
    simulator.arm(Fault(operation="create", kind="cut_text", status=status))

    carpool.submit()

    [batch] = carpool.rows("SELECT state, last_error FROM batches")
    assert batch.state == "rejected"
    assert batch.last_error.endswith("a value is wrong: \ufffd \ufffd")
    assert request_states(carpool.engine) == ["discarded"]
    [body] = answer_bodies(carpool.engine).values()
    assert "a value is wrong" in json.loads(body)["error"]["error"]["message"]
    assert carpool.rows("SELECT state FROM deliveries") == [("available",)]


@pytest.mark.parametrize("operation", ["create", "list"])
@pytest.mark.parametrize("status", [401, 429, 500, 529])
def test_whatever_is_refused_with_a_cut_text_goes_on_afterwards(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, operation: Any, status: int
) -> None:
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    simulator.arm(Fault(operation=operation, kind="cut_text", status=status))

    carpool.submit()

    [batch] = carpool.rows("SELECT state, in_doubt_at, last_error FROM batches")
    in_doubt = operation == "create" and status == 500
    assert (batch.state, bool(batch.in_doubt_at)) == ("submitting" if in_doubt else "sealed", in_doubt)
    assert "a value is wrong" in batch.last_error


class Rude(Claude):
    """Refuses with this message, type and code."""

    def __init__(self, text: str, **error: Any) -> None:
        super().__init__()
        self._text, self._error = text, error

    def create(self, *arguments: Any) -> RemoteBatch:
        raise ClaudeError(self._text, kind=self._text, error_code=self._text, **self._error)


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
@pytest.mark.parametrize("status", [400, 402, 529, None])
def test_no_message_keeps_a_batch_from_being_recorded(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, text: str, status: int | None
) -> None:
    producer.enqueue(request("a"), callback=HOOK)
    carpool.aggregate()
    [row] = carpool.rows("SELECT id FROM batches")

    assert carpool.submit_batch(row.id, Rude(text, status=status, certain=status is not None))

    [batch] = carpool.rows("SELECT state, last_error FROM batches")
    assert batch.state == {400: "rejected", 402: "sealed", 529: "sealed", None: "submitting"}[status]
    assert len(batch.last_error) <= 520


@pytest.mark.parametrize(
    "text", [text.encode("utf-16", "surrogatepass") for text in NASTY], ids=range(len(NASTY))
)
@pytest.mark.parametrize("place", ["type", "message", "flat"])
def test_no_error_in_a_result_keeps_its_batch_from_being_recorded(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, text: bytes, place: str
) -> None:
    words = text.decode("utf-16", "surrogatepass")
    bad, good = producer.enqueue_many([request("a"), request("b")], callback=HOOK)
    error: Any = {"type": "invalid_request_error", "message": "no"} | {place: words}
    wrapped = words if place == "flat" else {"type": "error", "error": error}

    def edit(lines: list[bytes]) -> list[bytes]:
        result = {"type": "errored", "error": wrapped}
        line = json.dumps({"custom_id": bad, "result": result}).encode()
        return [line, *(one for one in lines if bad.encode() not in one)]

    carpool.claude = Edited(edit)
    carpool.until(lambda: carpool.ended(2))

    assert sorted(request_states(carpool.engine)) == ["completed", "discarded"]
    with read(carpool.engine) as connection:
        answers = load_answers(connection, [bad, good])
    assert json.loads(bytes(answers[bad].error))["message"]
    [row] = carpool.rows("SELECT error FROM requests WHERE state = 'discarded'")
    assert 0 < len(row.error) <= 100
    assert cleaned(row.error, 100) == row.error


def test_a_create_of_which_only_the_id_is_answered_is_accepted(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    simulator.arm(Fault(operation="create", kind="bare"), Fault(operation="retrieve", kind="bare", times=5))

    carpool.submit()

    [batch] = carpool.rows("SELECT state, in_progress_at, expires_at FROM batches")
    assert batch.state == "in_progress"
    assert batch.expires_at - batch.in_progress_at == pytest.approx(86_400_000, abs=2_000)
    carpool.until(lambda: carpool.ended(2))
    assert set(request_states(carpool.engine)) == {"completed"}
    assert simulator.ledger()["batches"] == 1
