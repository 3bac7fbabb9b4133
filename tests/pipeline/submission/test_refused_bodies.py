"""A body that is refused for good: the request at fault is found; where the lane is at fault, no request fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.queries import answer_bodies, request_states

from carpool import Producer
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import now
from carpool_worker.exceptions import ClaudeError
from carpool_worker.simulator import Fault, RemoteSimulator

BETA = "Unexpected value(s) `output-300k` for the `anthropic-beta` header."

Refuse = Callable[[list[dict[str, Any]]], str | None]
"""Returns why requests are refused together, or None."""


class Picky(Claude):
    """An API that looks at a body before it takes it, and counts the posts."""

    def __init__(self, refuse: Refuse, status: int = 400) -> None:
        super().__init__()
        self.refuse = refuse
        self._status = status
        self.posts: list[int] = []

    def create(self, body: Any, *arguments: Any) -> RemoteBatch:
        requests = json.loads(body.read())["requests"]
        body.seek(0)
        self.posts.append(len(requests))
        if why := self.refuse(requests):
            message = f"{self._status} invalid_request_error: {why}"
            raise ClaudeError(message, status=self._status, kind="invalid_request_error")
        return super().create(body, *arguments)


def text(one: dict[str, Any]) -> str:
    return str(one["params"]["messages"][0]["content"])


def is_bad(one: dict[str, Any]) -> bool:
    return text(one).startswith("bad")


def any_bad(requests: list[dict[str, Any]]) -> str | None:
    return "a value is wrong" if any(map(is_bad, requests)) else None


def first_bad(requests: list[dict[str, Any]]) -> str | None:
    places = (place for place, one in enumerate(requests) if is_bad(one))
    return next((f"requests.{place}.params.speed: Extra inputs are not permitted" for place in places), None)


def given(carpool: Carpool, producer: Producer, refuse: Refuse, *texts: str, status: int = 400) -> Picky:
    """One sealed batch of these requests, for a picky API."""
    producer.enqueue_many([request(one) for one in texts])
    carpool.aggregate()
    carpool.claude = picky = Picky(refuse, status)
    return picky


def submit_all(carpool: Carpool, rounds: int = 12) -> None:
    for _ in range(rounds):
        carpool.submit()


def probe(carpool: Carpool) -> None:
    carpool.change("UPDATE lane_pauses SET probe_at = 0")
    carpool.submit()


def good(count: int) -> list[str]:
    return [f"good {n}" for n in range(count)]


FIRST = "requests.0.params.betas: Extra inputs are not permitted"


@pytest.mark.parametrize(("count", "why"), [(2, BETA), (3, BETA), (64, BETA), (3, FIRST), (64, FIRST)])
def test_a_400_about_the_lane_pauses_it_and_discards_nobody_or_few(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, count: int, why: str
) -> None:
    picky = given(carpool, producer, lambda _: why, *good(count))

    submit_all(carpool)

    # Then there were few posts, and the pause says why
    assert len(picky.posts) <= 4
    [pause] = carpool.rows("SELECT * FROM lane_pauses")
    assert why in pause.reason
    assert now() < pause.probe_at <= now() + 60_000
    ended = request_states(carpool.engine).count("discarded")
    assert ended <= (2 if why == FIRST else 0)

    # When probes meet the same, Then it stays so, and few requests are posted to find out
    posts = len(picky.posts)
    for _ in range(6):
        probe(carpool)
    assert len(picky.posts) <= posts + 6
    assert request_states(carpool.engine).count("discarded") == ended

    # When it is put right, Then all the others are answered
    picky.refuse = lambda _: None
    carpool.until(lambda: carpool.ended(count))
    assert request_states(carpool.engine).count("completed") == count - ended
    assert simulator.ledger()["ran_twice"] == []
    assert carpool.rows("SELECT * FROM lane_pauses") == []


def test_a_request_that_the_error_names_is_taken_out_at_once(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    picky = given(carpool, producer, first_bad, *good(5), "bad", *good(20))

    submit_all(carpool, 3)

    assert picky.posts == [26, 25]
    [row] = carpool.rows("SELECT id, error FROM requests WHERE state = 'discarded'")
    assert row.error == "invalid_request_error"
    [(id_, body)] = answer_bodies(carpool.engine).items()
    assert id_ == row.id
    assert "requests.5.params.speed" in json.loads(body)["error"]["error"]["message"]
    carpool.until(lambda: carpool.ended(26))
    assert request_states(carpool.engine).count("completed") == 25


@pytest.mark.parametrize("refuse", [any_bad, first_bad])
@pytest.mark.parametrize("bad", [(0,), (15,), (0, 1), (0, 15), (3, 5, 9, 14)])
def test_whichever_requests_are_at_fault_they_fail_and_all_others_are_answered(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, refuse: Refuse, bad: tuple[int, ...]
) -> None:
    given(carpool, producer, refuse, *("bad" if n in bad else "good" for n in range(16)))

    carpool.until(lambda: carpool.ended(16))

    states = request_states(carpool.engine)
    assert (states.count("discarded"), states.count("completed")) == (len(bad), 16 - len(bad))
    errors = carpool.rows("SELECT DISTINCT error FROM requests WHERE state = 'discarded'")
    assert errors == [("invalid_request_error",)]
    assert simulator.ledger()["ran_twice"] == []


def test_a_body_that_is_too_large_is_halved_until_it_fits_and_pauses_nothing(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    too_large: Refuse = lambda requests: "Request exceeds the maximum size" if len(requests) > 4 else None  # noqa: E731
    picky = given(carpool, producer, too_large, *good(32), status=413)

    submit_all(carpool)

    assert picky.posts == [32, 16, 16, 8, 8, 8, 8, *[4] * 8] or sorted(picky.posts)[:8] == [4] * 8
    assert carpool.rows("SELECT * FROM lane_pauses") == []
    carpool.until(lambda: carpool.ended(32))
    assert set(request_states(carpool.engine)) == {"completed"}


def test_an_operators_pause_is_not_changed_by_what_was_under_way(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given(carpool, producer, lambda _: BETA, *good(4))
    [lane] = [row.lane for row in carpool.rows("SELECT lane FROM batches")]
    carpool.claude.refuse = lambda _: _paused_meanwhile(carpool, lane)  # type: ignore[attr-defined]

    submit_all(carpool)

    assert carpool.rows("SELECT reason, by_operator FROM lane_pauses") == [("wait", True)]
    assert "discarded" not in request_states(carpool.engine)


def _paused_meanwhile(carpool: Carpool, lane: str) -> str:
    carpool.change(
        "INSERT INTO lane_pauses (lane, reason, paused_at, probe_at, probes, by_operator) "
        f"VALUES ('{lane}', 'wait', 1, 1, 0, true) ON CONFLICT DO NOTHING"
    )
    return BETA


@pytest.mark.parametrize("status", [301, 302, 307, 308, 405])
def test_an_api_at_another_address_did_nothing_and_an_operator_is_asked(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, status: int
) -> None:
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    place = {"location": "https://elsewhere.example.com/v1/messages/batches"}
    simulator.arm(Fault(operation="create", kind="error", status=status, headers=place, message=""))

    carpool.submit()

    [batch] = carpool.rows("SELECT state, in_doubt_at FROM batches")
    assert tuple(batch) == ("sealed", None)
    [pause] = carpool.rows("SELECT reason FROM lane_pauses")
    assert str(status) in pause.reason
    carpool.until(lambda: carpool.ended(2))
    assert simulator.ledger()["ran_twice"] == []
