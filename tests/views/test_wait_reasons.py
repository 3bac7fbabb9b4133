"""What a batch waits for, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from carpool_worker.models import Batch, LanePause
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.windows import Opening, parse
from carpool_worker.states import BatchState
from carpool_worker.units import Milliseconds
from carpool_worker.views.turns import BatchTurn
from carpool_worker.views.wait_reasons import QueueContext, waits_for

NOON = Milliseconds(1_795_435_200_000)
CONTEXT = QueueContext(
    at=NOON,
    limits=Limits(count=10_000, body_bytes=1_000_000, seconds=60),
    doubt_policy=DoubtPolicy(submit_timeout=600, settle_interval=120),
    submit_policy=SubmitPolicy(600, 200_000, account_limits={"second": 900}),
    queued={None: 180_000, "second": 700},
    pauses={},
    admitted=(),
    turns={"next": BatchTurn(0, "small"), "later": BatchTurn(2, "big")},
)
PAUSE = LanePause(lane="lane", reason="401 no key", paused_at=NOON, probe_at=NOON + 60_000, probes=0)


def batch(state: BatchState, **columns: Any) -> Batch:
    row = {"id": "b", "lane": "lane", "model": "m", "headers": "{}", "opened_at": NOON, "request_count": 500}
    return Batch(state=state, **{"due_at": 0, **row, **columns})


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (batch(BatchState.OPEN), "more requests: until 12:01:00 UTC, or 9,500 more"),
        (batch(BatchState.SEALED), "room: 180,000 of 200,000 requests are queued at Anthropic"),
        (
            batch(BatchState.SEALED, id="next"),
            "room: 180,000 of 200,000 requests are queued at Anthropic; it is next, small's turn",
        ),
        (
            batch(BatchState.SEALED, id="later"),
            "room: 180,000 of 200,000 requests are queued at Anthropic; 2 batches before it, big's turn",
        ),
        (
            batch(BatchState.SEALED, account="second"),
            "room: 700 of 900 requests are queued at Anthropic",
        ),
        (
            batch(BatchState.IN_PROGRESS, account="second", unseen_since=NOON),
            "an API key that may see it: account second has had none since 12:00:00 UTC (carpool doctor)",
        ),
        (
            batch(BatchState.SEALED, due_at=NOON + 5_000, last_error="529 Overloaded"),
            "a back-off, until 12:00:05 UTC: 529 Overloaded",
        ),
        (
            batch(BatchState.SUBMITTING, submitting_at=NOON - 1_000),
            "the answer to its post; should that be lost, Anthropic's list until 12:13:09 UTC, then it is sent again",
        ),
        (
            batch(BatchState.SUBMITTING, submitting_at=NOON - 9_000, in_doubt_at=NOON),
            "Anthropic's list to show whether it was made, until 12:02:00 UTC, then it is sent again",
        ),
        (
            batch(BatchState.SUBMITTING, submitting_at=1, in_doubt_at=1),
            "Anthropic's list: a batch there may be this one, as its results will show, or the list can't be read or "
            "believed (no reason known)",
        ),
        (
            batch(BatchState.IN_PROGRESS, expires_at=NOON + 86_400_000),
            "Anthropic, until 2026-11-24 12:00:00 UTC at most",
        ),
        (
            batch(BatchState.IN_PROGRESS, expires_at=NOON + 1_000, in_doubt_at=1),
            "Anthropic, until 12:00:01 UTC at most "
            "(taken for this batch by its size; its results will show whether it is)",
        ),
        (batch(BatchState.CANCELING), "Anthropic to end it: it was canceled, what has run is kept"),
        (batch(BatchState.ENDED), "a worker to collect its results"),
        (
            batch(BatchState.ENDED, due_at=NOON + 5_000, last_error="cut"),
            "its results, read again at 12:00:05 UTC: cut",
        ),
        (batch(BatchState.COMPLETED), ""),
        (batch(BatchState.REJECTED), ""),
    ],
    ids=lambda value: str(value.state) if isinstance(value, Batch) else "",
)
def test_each_state_has_its_words(one: Batch, words: str) -> None:
    assert waits_for(one, CONTEXT) == words


def test_in_a_fresh_workspace_it_says_that_it_takes_longer_and_what_ends_it() -> None:
    doubted = batch(BatchState.SUBMITTING, submitting_at=NOON - 9_000, in_doubt_at=NOON)

    assert waits_for(doubted, replace(CONTEXT, fresh={"b"})) == (
        "Anthropic's list to show whether it was made, until 13:00:00 UTC, then it is sent again (so late as the list "
        "has not shown any batch of ours yet; `carpool batches resolve` decides it)"
    )


def test_a_batch_that_may_be_posted_waits_for_a_worker_alone() -> None:
    assert waits_for(batch(BatchState.SEALED), replace(CONTEXT, admitted=("b",))) == "a worker to post it"


def test_a_batch_behind_its_warm_up_names_it_and_how_long_it_is_waited_for() -> None:
    waiting = batch(BatchState.SEALED, warm_up_id="w", warm_until=NOON + 3_600_000)

    assert (
        waits_for(waiting, replace(CONTEXT, warming={"b"}))
        == "its warm-up batch w, until 13:00:00 UTC at most"
    )


def test_a_lane_that_an_operator_paused_says_so_and_names_no_time() -> None:
    pause = LanePause(lane="lane", reason="over budget", paused_at=NOON, probe_at=NOON, by_operator=True)
    paused = replace(CONTEXT, pauses={"lane": pause}, admitted=("b",))

    assert waits_for(batch(BatchState.SEALED), paused) == (
        "its lane, paused by an operator: over budget (until it is resumed)"
    )


NIGHTS = parse("22:00-06:00 Europe/Berlin")
CLOSED = replace(CONTEXT, opening=Opening(Milliseconds(NOON + 9 * 3_600_000), NIGHTS))


def test_a_batch_that_waits_for_a_window_says_when_it_opens_unless_its_max_wait_ends_before() -> None:
    held, hurried = batch(BatchState.SEALED), batch(BatchState.SEALED, submit_by=NOON + 3_605_000)
    patient = batch(BatchState.SEALED, submit_by=NOON + 86_400_000)

    window = "the window at 21:00:00 UTC (22:00-06:00 Europe/Berlin)"
    assert (waits_for(held, CLOSED), waits_for(patient, CLOSED)) == (window, window)
    assert waits_for(hurried, CLOSED) == (
        "the end of its max_wait: it leaves at 13:00:00 UTC, outside submit_windows"
    )
    assert waits_for(hurried, replace(CLOSED, at=NOON + 3_600_000, admitted=("b",))) == "a worker to post it"


def test_an_open_batch_is_sealed_before_its_max_wait_ends_and_never_later_than_without_one() -> None:
    hurried, patient = (batch(BatchState.OPEN, submit_by=NOON + 1_000 * wait) for wait in (35, 3_600))

    assert waits_for(hurried, CONTEXT) == "more requests: until 12:00:30 UTC, or 9,500 more"
    assert waits_for(patient, CONTEXT) == "more requests: until 12:01:00 UTC, or 9,500 more"


def test_an_open_batch_fills_until_the_window_opens() -> None:
    limits = replace(CONTEXT.limits, windows=(NIGHTS,))

    waiting = waits_for(batch(BatchState.OPEN), replace(CLOSED, limits=limits))

    assert waiting == "more requests: until 21:00:00 UTC, or 9,500 more"


def test_a_paused_lane_says_why_and_when_it_is_asked_again() -> None:
    paused = replace(CONTEXT, pauses={"lane": PAUSE}, admitted=("b",))

    assert waits_for(batch(BatchState.SEALED), paused) == (
        "its lane, paused: 401 no key (asked again at 12:01:00 UTC)"
    )
