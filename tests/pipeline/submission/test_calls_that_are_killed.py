"""A crash at any point of a call costs nothing: before and after each commit, and before and after the call itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool
from tests.fixtures.calls import Calling, billed, calling, pooled, state

from carpool import Producer
from carpool_worker import transition_log
from carpool_worker.simulator import RemoteSimulator

__all__ = ["calling"]

ENDED = {("completed", "succeeded", None), ("discarded", "errored", "answer_lost")}


class Killed(BaseException):
    """The process is gone."""


class Points:
    """Counts the points that are passed, and kills at one of them."""

    def __init__(self) -> None:
        self.deadly: int | None = None
        self.passed = 0

    def pass_by(self, *_: object) -> None:
        self.passed += 1
        if self.passed == self.deadly:
            raise Killed


@pytest.fixture
def points(unhurried: Carpool, calling: Calling, monkeypatch: pytest.MonkeyPatch) -> Iterator[Points]:
    points, publish, call = Points(), transition_log.publish, calling.messages.call

    def published(lines: Any) -> None:
        points.pass_by()
        publish(lines)

    def called(*arguments: Any) -> Any:
        points.pass_by()
        answer = call(*arguments)
        points.pass_by()
        return answer

    monkeypatch.setattr(transition_log, "publish", published)
    monkeypatch.setattr(calling.messages, "call", called)
    sa.event.listen(unhurried.engine, "commit", points.pass_by)
    yield points
    sa.event.remove(unhurried.engine, "commit", points.pass_by)


@contextmanager
def killed_at(points: Points, number: int) -> Iterator[None]:
    points.deadly, points.passed = number, 0
    try:
        yield
    except Killed:
        pass
    finally:
        points.deadly = None


def test_a_crash_at_any_point_of_a_call_costs_nothing(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator, points: Points
) -> None:
    ends, number = [], 0
    while True:
        # Given a request that is due
        number += 1
        (request_id,) = pooled(unhurried, producer, f"Question {number}")
        # When whoever calls it is killed at this point, and somebody else goes on
        with killed_at(points, number):
            calling.take_out(request_id)
            calling.call()
        is_whole = points.passed < number
        unhurried.change("UPDATE real_time_calls SET lease_until = 1 WHERE state = 'calling'")
        for _ in range(2):
            calling.take_out(request_id)
            calling.call()
            calling.rescue()
        # Then it has ended
        ends.append(state(unhurried, request_id))
        assert ends[-1] in ENDED, f"point {number}"
        if is_whole:
            break
    # And nothing was run twice, delivered twice or billed twice
    answered = ends.count(("completed", "succeeded", None))
    ledger = simulator.ledger()
    assert ledger["ran_twice_count"] == 0
    assert answered <= ledger["billed"] <= number
    assert billed(unhurried)["real_time"][0] == answered
    assert unhurried.rows("SELECT sum(pending) FROM deliveries") == [(number,)]
    assert number > 8
    assert 3 < answered < number
