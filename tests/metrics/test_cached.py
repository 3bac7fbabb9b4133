"""What is kept of a look for the metrics: scrapes share it, and none waits for a table of millions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from carpool_worker.metrics import cached
from carpool_worker.metrics.cached import Kept


class Looking:
    """Looks that are numbered, and last as long as the test says."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.may_end.set()
        self._numbers = count(1)

    def look(self) -> int:
        number = next(self._numbers)
        assert self.may_end.wait(30)
        return number


@pytest.fixture
def looking() -> Iterator[Looking]:
    looking = Looking()
    yield looking
    looking.may_end.set()


@pytest.fixture
def stale_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "FRESH", 0.0)
    monkeypatch.setattr(cached, "LOAD", 0.0)


def test_scrapes_at_once_and_soon_after_share_a_look(looking: Looking) -> None:
    # Given three scrapes while the first look lasts
    looking.may_end.clear()
    shared = Kept(looking.look)
    with ThreadPoolExecutor(3) as scrapes:
        futures = [scrapes.submit(shared.get) for _ in range(3)]
        looking.may_end.set()

        # Then all are shown the same, and the next one too
        assert [future.result(30) for future in futures] == [1, 1, 1]
    assert shared.get() == 1
    shared.close()


@pytest.mark.usefixtures("stale_at_once")
def test_a_scrape_is_shown_the_last_look_while_the_next_one_lasts(looking: Looking) -> None:
    # Given a look, and a second one that does not end
    slow = Kept(looking.look, patience=0.01)
    assert slow.get() == 1
    looking.may_end.clear()

    # When it is asked again and again, Then nobody waits, and only one looks
    assert [slow.get() for _ in range(3)] == [1, 1, 1]

    # And the second look is shown once it is there
    looking.may_end.set()
    slow.close()
    assert slow.get() == 2


def test_a_look_that_took_long_is_kept_for_long(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a clock by which each look takes 10 seconds
    clock = iter([0.1, 0.1, 10.1, 10.1, 209.0, 211.0, 211.0, 221.0, 221.0])
    monkeypatch.setattr(cached, "monotonic", lambda: next(clock))
    costly = Kept(looking.look)
    assert costly.get() == 1

    # Then it is kept for 200 seconds, and not for longer
    assert costly.get() == 1
    assert costly.get() == 2
    costly.close()


def test_a_look_that_failed_is_told_and_tried_again() -> None:
    # Given a server that is away once
    answers: Iterator[Exception | int] = iter([ConnectionError("away"), 7])

    def look() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    flaky = Kept(look)
    with pytest.raises(ConnectionError):
        flaky.get()
    assert flaky.get() == 7
    flaky.close()
