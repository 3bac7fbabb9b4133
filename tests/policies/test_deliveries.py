"""What follows a try to deliver: decided by the receiver's status, the schedule and Retry-After alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.policies.deliveries import (
    JITTER,
    LONGEST_RETRY_AFTER,
    Decision,
    Event,
    Sent,
    after_delivery,
)
from carpool_worker.settings import read_settings
from carpool_worker.states import DeliveryState

SCHEDULE = read_settings().webhook_schedule
MIDDLE = 0.5  # no jitter


def answered(status: int, retry_after: float | None = None) -> Sent:
    return Sent(Event.ANSWERED, "body", status, retry_after)


def decide(sent: Sent, attempt: int = 1, chance: float = MIDDLE) -> Decision:
    return after_delivery(sent, attempt, SCHEDULE, chance)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert decide(answered(status)) == Decision(DeliveryState.DELIVERED)


def test_what_a_broker_took_is_delivered() -> None:
    assert decide(Sent(Event.ACCEPTED)) == Decision(DeliveryState.DELIVERED)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 429, 500, 502, 503, 504])
def test_any_other_status_is_tried_again(status: int) -> None:
    decision = decide(answered(status))
    assert (decision.state, decision.seconds, decision.counts) == (DeliveryState.RETRYABLE, 5.0, True)
    assert decision.error is not None
    assert str(status) in decision.error


def test_410_stops_the_endpoint_for_good() -> None:
    decision = decide(answered(410))
    assert (decision.state, decision.stops_endpoint) == (DeliveryState.DISCARDED, True)


def test_ten_tries_are_made_by_the_schedule_of_standard_webhooks() -> None:
    waits = [decide(answered(500), attempt).seconds for attempt in range(1, 10)]
    assert waits == pytest.approx([5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400])
    assert decide(answered(500), 10).state is DeliveryState.DISCARDED


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 240.0), (0.5, 300.0), (1.0, 360.0)])
def test_waits_have_jitter_of_a_fifth(chance: float, seconds: float) -> None:
    assert decide(answered(500), 2, chance).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(None, 300.0), (0.0, 300.0), (10.0, 300.0), (1_000.0, 1_000.0), (float("inf"), LONGEST_RETRY_AFTER)],
)
def test_retry_after_is_obeyed_up_to_a_day_and_never_makes_a_try_earlier(
    asked: float | None, seconds: float
) -> None:
    assert decide(answered(429, asked), 2).seconds == pytest.approx(seconds)


@given(
    attempt=st.integers(1, 30),
    chance=st.floats(0, 1),
    status=st.sampled_from([None, 302, 404, 429, 500, 503]),
    asked=st.none() | st.floats(min_value=0) | st.sampled_from([0.0, 315_360_000.0, float("inf")]),
)
def test_every_wait_is_that_of_the_schedule_within_its_jitter_or_what_was_asked_for_up_to_a_day(
    attempt: int, chance: float, status: int | None, asked: float | None
) -> None:
    # When
    decision = decide(Sent(Event.ANSWERED if status else Event.FAILED, None, status, asked), attempt, chance)

    # Then
    if attempt > len(SCHEDULE):
        assert decision.state is DeliveryState.DISCARDED
        return
    planned = SCHEDULE[attempt - 1]
    least, most = planned * (1 - JITTER), planned * (1 + JITTER)
    asked = min(asked or 0.0, LONGEST_RETRY_AFTER)
    assert decision.state is DeliveryState.RETRYABLE
    assert max(least, asked) - 1e-6 <= decision.seconds <= max(most, asked) + 1e-6


@given(chances=st.lists(st.floats(0, 1), min_size=9, max_size=9))
def test_ten_tries_take_three_days_and_a_fifth_at_most(chances: list[float]) -> None:
    waits = [decide(answered(500), attempt, chance).seconds for attempt, chance in enumerate(chances, 1)]
    assert sum(waits) <= 3.2 * 86_400 * (1 + JITTER)


def test_what_waits_for_a_slow_receiver_waits_longer() -> None:
    assert decide(Sent(Event.DEFERRED, "slow", retry_after=120.0)).seconds == pytest.approx(120.0)


def test_a_refused_target_is_given_up_on_at_once() -> None:
    assert decide(Sent(Event.REFUSED, "private")) == Decision(
        DeliveryState.DISCARDED, error="private", counts=False
    )


def test_what_was_not_sent_waits_and_does_not_count_however_often() -> None:
    decision = decide(Sent(Event.DEFERRED, "no secret"), attempt=10)
    assert (decision.state, decision.counts, decision.error) == (DeliveryState.RETRYABLE, False, "no secret")


def test_no_answer_is_tried_again() -> None:
    decision = decide(Sent(Event.FAILED, "no answer within 20 s"))
    assert (decision.state, decision.error) == (DeliveryState.RETRYABLE, "no answer within 20 s")
