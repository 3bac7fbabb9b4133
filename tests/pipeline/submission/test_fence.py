"""The fence around a post: a process that stands still at any step, and wakes much later, makes nothing twice."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.doubts import assert_each_ran_once, claude_ids, rescue
from tests.fixtures.metrics import scrape
from tests.fixtures.queries import batch_ids

from carpool import Producer
from carpool_worker.claude import fence as fences
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.claude.fence import HELD_BACK, UPLOAD_CHUNK, Fence, elapsed
from carpool_worker.database import read
from carpool_worker.exceptions import PostOvertaken
from carpool_worker.pipeline.submission import orphans
from carpool_worker.settings import read_settings
from carpool_worker.simulator import Fault, RemoteSimulator, SimulatorOptions, running
from carpool_worker.views.batches import find

HOUR = 3_600


def passed(fence: Fence, body: bytes) -> tuple[bytes, str]:
    """What of a body comes through, and the name of what stopped it."""
    chunks = []
    try:
        for chunk in fence.pass_through(io.BytesIO(body), len(body)):
            chunks.append(chunk)
    except (TimeoutError, PostOvertaken) as stopped:
        return b"".join(chunks), type(stopped).__name__
    return b"".join(chunks), ""


@pytest.mark.parametrize(
    "size", [1, HELD_BACK - 1, HELD_BACK, HELD_BACK + 1, UPLOAD_CHUNK, 2 * UPLOAD_CHUNK + HELD_BACK + 7]
)
def test_a_body_comes_through_byte_for_byte_and_its_end_only_if_the_post_counts(size: int) -> None:
    body = bytes(n % 251 for n in range(size))

    assert passed(Fence(60), body) == (body, "")
    assert passed(Fence(60, lambda: False), body) == (body[: max(0, size - HELD_BACK)], "PostOvertaken")


def test_a_look_that_takes_too_long_is_too_late() -> None:
    clock = [0.0]

    def look() -> bool:
        clock[0] += HOUR
        return True

    assert passed(Fence(60, look, lambda: clock[0]), b"x" * 100) == (b"x" * 36, "TimeoutError")


def test_time_runs_from_when_the_fence_is_made() -> None:
    times = iter([0.0, 61.0])

    assert passed(Fence(60, clock=lambda: next(times)), b"x" * 10) == (b"", "TimeoutError")


def test_each_chunk_is_measured() -> None:
    clock = count(0, 20)

    came, stopped = passed(Fence(60, clock=lambda: next(clock)), bytes(5 * UPLOAD_CHUNK))
    assert (len(came), stopped) == (3 * UPLOAD_CHUNK, "TimeoutError")


def test_the_clock_counts_suspensions() -> None:
    assert getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC) == fences.CLOCK
    assert elapsed() <= elapsed()


class Frozen(Claude):
    """Stands still, once, at one step of a post, while `meanwhile` happens to the rest of the world."""

    def __init__(self, step: str, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.step, self._meanwhile = step, meanwhile

    def _pass(self, step: str) -> None:
        if step == self.step:
            self.step = ""
            self._meanwhile()

    def newest(self, *arguments: Any) -> list[RemoteBatch]:
        self._pass("before the list is read")
        newest = super().newest(*arguments)
        self._pass("before the intent")
        return newest

    def create(self, body: Any, length: int, headers: Any, fence: Fence) -> RemoteBatch:
        self._pass("before the post")

        def is_ours() -> bool:
            self._pass("before the last look")
            ours = fence.is_ours()
            self._pass("after the last look")
            return ours

        made = super().create(body, length, headers, replace(fence, is_ours=is_ours))
        self._pass("before the answer is recorded")
        return made


STEPS = (
    "before the list is read",
    "before the intent",
    "before the post",
    "before the last look",
    "before the answer is recorded",
)


@pytest.fixture
def batch_id(carpool: Carpool, producer: Producer, simulator: RemoteSimulator) -> str:
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    return batch_ids(carpool.engine)[0]


@pytest.fixture
def others(carpool: Carpool) -> Iterator[Callable[[], None]]:
    """What the other processes do in the hours in which one stands still: give its batch up, and post it."""
    other = Claude()

    def go_on() -> None:
        carpool.change("UPDATE batches SET submitting_at = submitting_at - 3600000")
        rescue(carpool)
        carpool.change("UPDATE batches SET search_started_at = search_started_at - 3600000")
        rescue(carpool)
        [batch_id] = batch_ids(carpool.engine)
        carpool.submit_batch(batch_id, other)

    yield go_on
    other.close()


@pytest.mark.parametrize("step", STEPS)
def test_whoever_stood_still_for_hours_at_any_step_posts_nothing_twice(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, others: Callable[[], None], step: str
) -> None:
    frozen = Frozen(step, others)

    carpool.submit_batch(batch_id, frozen)
    frozen.close()

    assert frozen.step == ""
    assert len(list(carpool.claude.list_newest({}))) == 1
    assert carpool.rows("SELECT * FROM unowned_batches") == []
    carpool.until(lambda: not rescue(carpool) and carpool.ended(2))
    assert_each_ran_once(simulator, 2)


def test_a_machine_suspended_after_the_last_look_posts_nothing_twice(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, others: Callable[[], None]
) -> None:
    # Given a clock that counts the hours in which the machine was suspended
    clock = [0.0]

    def suspended() -> None:
        clock[0] += HOUR
        others()

    frozen = Frozen("after the last look", suspended)
    carpool.submit_batch(batch_id, frozen, clock=lambda: clock[0])
    frozen.close()

    assert len(list(carpool.claude.list_newest({}))) == 1
    carpool.until(lambda: not rescue(carpool) and carpool.ended(2))
    assert_each_ran_once(simulator, 2)


@pytest.fixture
def slow(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, carpool: Carpool) -> Iterator[RemoteSimulator]:
    """An API whose batches take an hour, unless they are canceled."""
    with running(SimulatorOptions(data=tmp_path / "slow", latency=HOUR, cancel_latency=0)) as remote:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", remote.url)
        carpool.claude.close()
        carpool.claude = Claude()
        yield remote
        carpool.claude.close()


def freeze_past_all_looks(carpool: Carpool, batch_id: str, others: Callable[[], None]) -> str:
    """Post a batch twice, as a machine does whose clocks stood still with it; return the id of what is too much."""
    frozen = Frozen("after the last look", others)
    assert carpool.submit_batch(batch_id, frozen) is None
    frozen.close()
    [first, _] = carpool.claude.list_newest({})
    return first.id


def test_what_gets_through_the_gap_is_canceled_at_once_and_its_id_is_kept(
    carpool: Carpool,
    batch_id: str,
    slow: RemoteSimulator,
    others: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    orphan = freeze_past_all_looks(carpool, batch_id, others)

    assert claude_ids(carpool)[batch_id] not in (None, orphan)
    [row] = carpool.rows("SELECT * FROM unowned_batches")
    assert (row.claude_id, row.batch_id, row.request_count) == (orphan, batch_id, 2)
    assert row.settled_at
    assert carpool.claude.retrieve(orphan, {}).processing_status in ("canceling", "ended")
    assert "batch posted twice" in caplog.text
    with read(carpool.engine) as connection:
        told = find(connection, read_settings(), batch_id).story
    assert f"{orphan} found at Anthropic with its requests, too: posted late, and canceled" in {
        event.words for event in told
    }
    assert scrape(carpool).value("batches_posted_twice_total") == 1
    carpool.until(lambda: len(slow.ledger_entries()) == 2)
    assert {entry["outcome"] for entry in slow.ledger_entries()} == {"canceled"}


def test_an_orphan_that_could_not_be_canceled_is_canceled_by_the_rescuer(
    carpool: Carpool, batch_id: str, slow: RemoteSimulator, others: Callable[[], None]
) -> None:
    slow.arm(Fault(operation="cancel", kind="error", status=529))
    orphan = freeze_past_all_looks(carpool, batch_id, others)
    assert carpool.claude.retrieve(orphan, {}).processing_status == "in_progress"

    rescue(carpool)

    assert carpool.claude.retrieve(orphan, {}).processing_status in ("canceling", "ended")
    assert carpool.rows("SELECT count(*) FROM unowned_batches WHERE settled_at IS NULL") == [(0,)]


def test_an_orphan_that_has_ended_is_left_alone(
    carpool: Carpool, batch_id: str, simulator: RemoteSimulator, others: Callable[[], None]
) -> None:
    simulator.arm(Fault(operation="cancel", kind="dropped", times=9))
    orphan = freeze_past_all_looks(carpool, batch_id, others)
    simulator.disarm()
    carpool.until(lambda: carpool.claude.retrieve(orphan, {}).processing_status == "ended")

    orphans.cancel_orphans(carpool.engine, [carpool.claude])

    assert carpool.rows("SELECT count(*) FROM unowned_batches WHERE settled_at IS NULL") == [(0,)]
