"""How a batch looks in Flower."""

from __future__ import annotations

from typing import Any

import pytest

from carpool_worker.flower import rows
from carpool_worker.flower.rows import (
    FAILED,
    RECEIVED,
    RETRIED,
    STARTED,
    SUCCEEDED,
    answer_time,
)
from carpool_worker.models import Batch
from carpool_worker.states import BatchState


def batch(state: BatchState = BatchState.OPEN, **columns: Any) -> Batch:
    return Batch(id="b" * 32, lane="m", model="m", headers="{}", state=state, opened_at=0, **columns)


def describe(batch: Batch) -> tuple[str, dict[str, Any]]:
    return rows.describe(batch, batch.opened_at + 60_000)


@pytest.mark.parametrize(
    ("state", "error", "kind", "result"),
    [
        (BatchState.OPEN, None, RECEIVED, "fills until 00:01:00 UTC"),
        (BatchState.SEALED, None, RECEIVED, "waits to be sent"),
        (BatchState.SEALED, "529 Overloaded", RETRIED, "waits: 529 Overloaded"),
        (BatchState.SUBMITTING, None, RECEIVED, "is being sent"),
        (BatchState.SUBMITTING, "in doubt: no answer", RETRIED, "waits: in doubt: no answer"),
        (BatchState.IN_PROGRESS, None, STARTED, "runs at Anthropic"),
        (BatchState.CANCELING, None, STARTED, "is being canceled at Anthropic"),
        (BatchState.ENDED, None, STARTED, "its results are being fetched: 2 succeeded"),
        (BatchState.COMPLETED, None, SUCCEEDED, "2 succeeded"),
        (BatchState.REJECTED, "400 no", FAILED, "rejected: 400 no"),
    ],
)
def test_every_state_has_its_event_and_says_what_happens(
    state: BatchState, error: str | None, kind: str, result: str
) -> None:
    shown, fields = describe(batch(state, last_error=error, succeeded=2))

    assert shown == kind
    assert fields["result"] == result
    assert fields["exception"] == error


def test_one_event_has_the_whole_row_with_the_times_of_the_batch() -> None:
    # Given a batch that was opened, posted with a header, and ended
    done = batch(BatchState.COMPLETED, claude_id="msgbatch_1", in_progress_at=61_000, ended_at=121_500)
    done.headers = '{"anthropic-beta": "output-300k-2026-03-24"}'
    done.expires_at = 86_461_000

    # When it is described, Then nothing of an earlier event is needed
    _, fields = describe(done)
    assert fields["name"] == "batch m"
    assert fields["kwargs"] == "msgbatch_1, anthropic-beta: output-300k-2026-03-24"
    assert (fields["received"], fields["started"], fields["succeeded"]) == (0, 61, 121.5)
    assert (fields["eta"], fields["expires"]) == ("1970-01-01T00:01:00+00:00", "1970-01-02T00:01:01+00:00")
    assert "failed" not in fields

    # And its runtime is separate, as Flower counts it each time
    assert "runtime" not in fields
    assert answer_time(done) == 60.5
    assert answer_time(batch(ended_at=5)) == 0
    assert answer_time(batch(in_progress_at=6, ended_at=5)) == 0.001


def test_a_batch_with_failures_is_visibly_one() -> None:
    # Given one of which some failed, Then its result begins with a warning
    kind, some = rows.describe(
        batch(BatchState.COMPLETED, succeeded=2, errored=1), 0, {"overloaded_error": 1}
    )
    assert (kind, some["result"]) == (SUCCEEDED, "⚠ 2 succeeded, 1 errored · failed: 1 overloaded_error")

    # And one of which all failed, failed
    kind, all_ = rows.describe(batch(BatchState.COMPLETED, errored=3), 0, {"invalid_request_error": 3})
    assert (kind, all_["exception"]) == (FAILED, "3 invalid_request_error")

    # And what was canceled is no failure
    assert (
        describe(batch(BatchState.COMPLETED, succeeded=2, canceled=1))[1]["result"]
        == "2 succeeded, 1 canceled"
    )


@pytest.mark.parametrize("state", [BatchState.OPEN, BatchState.SEALED])
def test_a_batch_of_a_paused_lane_says_why(state: BatchState) -> None:
    kind, fields = rows.describe(batch(state), 0, paused="402 credit balance too low")

    assert kind == RETRIED
    assert fields["result"] == fields["exception"] == "lane paused: 402 credit balance too low"


def test_what_is_at_anthropic_goes_on_whether_its_lane_is_paused_or_not() -> None:
    assert rows.describe(batch(BatchState.IN_PROGRESS), 0, paused="until Monday")[0] == STARTED
