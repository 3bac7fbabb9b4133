"""What follows from which failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool_worker import states
from carpool_worker.exceptions import RESULTS_GONE, ClaudeError, ResultsCut
from carpool_worker.policies.retries import (
    FIRST_BACKOFF,
    FIRST_PROBE,
    LONGEST_BACKOFF,
    LONGEST_PROBE,
    LONGEST_RETRY_AFTER,
    RESULTS_KEPT,
    SPEND_LIMIT_REACHED,
    Doubt,
    Pause,
    Postpone,
    Reject,
    after_outcome,
    after_results,
    after_submission,
    backoff,
    before_submission,
    is_gone,
    probe_delay,
    retry_delay,
    status_of,
)
from carpool_worker.states import RequestState, Transition


def refusal(status: int | None, retry_after: float | None = None, certain: bool = True) -> ClaudeError:
    return ClaudeError("refused", status=status, retry_after=retry_after, certain=certain)


def test_a_refusal_is_counted_by_its_status_or_by_what_took_its_place() -> None:
    limited = ClaudeError("slow down", status=429, kind="rate_limit_error")
    assert [status_of(error) for error in (limited, refusal(529), refusal(500, certain=False))] == [
        "429",
        "529",
        "500",
    ]
    assert status_of(refusal(None, certain=False)) == "none"
    assert status_of(refusal(None)) == "offline"
    assert status_of(refusal(429, retry_after=5.0)) == "paced"


@pytest.mark.parametrize("status", [None, 400, 401, 429, 500, 504, 529])
def test_a_failure_that_may_have_made_a_batch_is_a_doubt_whatever_its_status(status: int | None) -> None:
    assert after_submission(refusal(status, certain=False), 1) == Doubt()


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_body_that_will_never_be_taken_is_rejected(status: int) -> None:
    assert after_submission(refusal(status), 1) == Reject()


@pytest.mark.parametrize(
    "error",
    [
        *(refusal(status) for status in (401, 402, 403, 404)),
        ClaudeError("429 rate_limit_error: capped", status=429, error_code=SPEND_LIMIT_REACHED),
        ClaudeError("capped", status=429, error_code=SPEND_LIMIT_REACHED, retry_after=1.0),
        ClaudeError("400 invalid_request_error: Your credit balance is too low", status=400),
    ],
    ids=str,
)
def test_what_only_an_operator_can_mend_pauses_the_lane_and_rejects_nothing(error: ClaudeError) -> None:
    assert after_submission(error, 7) == Pause()
    assert before_submission(error, 7) == Pause()


def test_a_paused_lane_is_asked_ever_more_slowly_up_to_a_quarter_of_an_hour() -> None:
    delays = [probe_delay(probes) for probes in range(6)]

    assert delays == [FIRST_PROBE, 120, 240, 480, LONGEST_PROBE, LONGEST_PROBE]
    assert probe_delay(10_000) == LONGEST_PROBE


def test_results_are_read_again_ever_more_slowly_and_given_up_only_when_nobody_can_have_them() -> None:
    missing = refusal(404)

    assert after_results(ClaudeError("archived", status=404, kind=RESULTS_GONE), 0.0) is None
    for error in (missing, refusal(401), refusal(500), ResultsCut()):
        assert after_results(error, RESULTS_KEPT) == LONGEST_BACKOFF
        assert after_results(error, RESULTS_KEPT + 1) is None
    assert FIRST_BACKOFF * 0.8 <= (after_results(missing, 0.0) or 0.0) <= FIRST_BACKOFF * 1.2
    assert after_results(refusal(429, retry_after=1_000.0), 0.0) == 1_000.0


def test_only_a_404_says_that_a_batch_is_gone_and_only_once_nobody_could_read_its_results() -> None:
    assert not is_gone(refusal(404), RESULTS_KEPT)
    assert is_gone(refusal(404), RESULTS_KEPT + 1)
    assert not any(is_gone(refusal(status), RESULTS_KEPT + 1) for status in (401, 403, 500))


@pytest.mark.parametrize("error_code", [None, "an_error_of_tomorrow"])
@pytest.mark.parametrize("retry_after", [None, 0.0, 600.0])
def test_a_429_that_is_no_spend_cap_pauses_no_lane(retry_after: float | None, error_code: str | None) -> None:
    limited = ClaudeError("429", status=429, retry_after=retry_after, error_code=error_code)

    for decision in (after_submission(limited, 1), before_submission(limited, 1)):
        assert isinstance(decision, Postpone)
        assert decision.seconds >= (retry_after or FIRST_BACKOFF * 0.8)


@pytest.mark.parametrize("retry_after", [None, 0.0, 1.0])
@pytest.mark.parametrize("status", [None, 429, 529])
def test_a_refusal_for_now_backs_off(status: int | None, retry_after: float | None) -> None:
    first, later = (after_submission(refusal(status, retry_after), n) for n in (1, 5))

    assert isinstance(first, Postpone)
    assert isinstance(later, Postpone)
    assert 4 <= first.seconds <= 6
    assert 64 <= later.seconds <= 96


@pytest.mark.parametrize("status", [400, 413, 500, None])
def test_before_anything_was_posted_nothing_is_rejected_and_nothing_in_doubt(status: int | None) -> None:
    assert isinstance(before_submission(refusal(status, certain=False), 1), Postpone)


@given(failures=st.integers(0, 10_000), retry_after=st.none() | st.floats(0, allow_nan=False))
def test_a_backoff_is_bounded_and_never_shorter_than_asked_for(
    failures: int, retry_after: float | None
) -> None:
    seconds = backoff(failures, retry_after)

    assert min(retry_after or 0.0, LONGEST_RETRY_AFTER) <= seconds
    assert 0 < seconds <= max(LONGEST_BACKOFF * 1.2, LONGEST_RETRY_AFTER)


LAST, EARLIER = 3, 1


@pytest.mark.parametrize(
    ("outcome", "error_type", "attempt", "expected"),
    [
        ("succeeded", None, EARLIER, states.COMPLETE),
        ("succeeded", None, LAST, states.COMPLETE),
        ("errored", "invalid_request_error", EARLIER, states.DISCARD),
        ("errored", "not_found_error", EARLIER, states.DISCARD),
        ("errored", "request_too_large", EARLIER, states.DISCARD),
        ("errored", "overloaded_error", EARLIER, states.RESCHEDULE),
        ("errored", "api_error", EARLIER, states.RESCHEDULE),
        ("errored", "an_error_of_tomorrow", EARLIER, states.RESCHEDULE),
        ("errored", None, EARLIER, states.RESCHEDULE),
        ("errored", "api_error", LAST, states.DISCARD),
        ("expired", None, EARLIER, states.RESCHEDULE),
        ("expired", None, LAST, states.DISCARD),
        ("canceled", None, EARLIER, states.RESCHEDULE),
        ("canceled", None, LAST, states.CANCEL),
    ],
)
def test_the_outcome_and_the_attempts_decide_what_becomes_of_a_request(
    outcome: str, error_type: str | None, attempt: int, expected: Transition[RequestState]
) -> None:
    assert after_outcome(outcome, error_type, attempt, LAST) is expected


@pytest.mark.parametrize("attempt", [EARLIER, LAST])
def test_an_outcome_nobody_knows_is_never_run_again_as_it_may_have_been_billed(attempt: int) -> None:
    assert after_outcome("half_succeeded", None, attempt, LAST) is states.DISCARD


def test_only_an_error_makes_a_request_wait_before_it_is_tried_again() -> None:
    assert retry_delay("expired", 2, 60) == 0
    assert retry_delay("canceled", 2, 60) == 0
    assert 48 <= retry_delay("errored", 1, 60) <= 72
    assert 96 <= retry_delay("errored", 2, 60) <= 144
    assert retry_delay("errored", 1_000, 60) <= 60 * 64 * 1.2
