"""Readings for the metrics: scrapes share them, and none waits for a table of millions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from carpool_worker.metrics import cached
from carpool_worker.metrics.cached import Cached


class Reads:
    """Numbered readings that last as long as the test says."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.may_end.set()
        self._numbers = count(1)

    def read(self) -> int:
        number = next(self._numbers)
        assert self.may_end.wait(30)
        return number


@pytest.fixture
def reads() -> Iterator[Reads]:
    reads = Reads()
    yield reads
    reads.may_end.set()


@pytest.fixture
def stale_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(cached, "LOAD", 0.0)


def test_scrapes_at_once_and_soon_after_share_a_reading(reads: Reads) -> None:
    # Given three scrapes while the first reading lasts
    reads.may_end.clear()
    shared = Cached(reads.read)
    with ThreadPoolExecutor(3) as scrapes:
        futures = [scrapes.submit(shared.get) for _ in range(3)]
        reads.may_end.set()

        # Then all of them get it, and so does the next
        assert [future.result(30) for future in futures] == [1, 1, 1]
    assert shared.get() == 1
    shared.close()


@pytest.mark.usefixtures("stale_at_once")
def test_a_scrape_gets_the_last_reading_while_the_next_one_lasts(reads: Reads) -> None:
    # Given a reading, and a second one that does not end
    slow = Cached(reads.read, max_wait=0.01)
    assert slow.get() == 1
    reads.may_end.clear()

    # When it is asked again and again, Then nobody waits, and only one reads
    assert [slow.get() for _ in range(3)] == [1, 1, 1]

    # And the second reading is served once it is there
    reads.may_end.set()
    slow.close()
    assert slow.get() == 2


def test_a_slow_reading_is_kept_for_long(reads: Reads, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a clock by which each reading takes 10 seconds
    clock = iter([0.1, 0.1, 10.1, 10.1, 209.0, 211.0, 211.0, 221.0, 221.0])
    monkeypatch.setattr(cached, "monotonic", lambda: next(clock))
    costly = Cached(reads.read)
    assert costly.get() == 1

    # Then it is kept for 200 seconds, and not for longer
    assert costly.get() == 1
    assert costly.get() == 2
    costly.close()


def test_a_reading_that_failed_raises_and_is_tried_again() -> None:
    # Given a server that is away once
    answers: Iterator[Exception | int] = iter([ConnectionError("away"), 7])

    def read() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    flaky = Cached(read)
    with pytest.raises(ConnectionError):
        flaky.get()
    assert flaky.get() == 7
    flaky.close()
