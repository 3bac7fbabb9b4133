"""How a batch looks in Flower."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from carpool_worker.flower_events import (
    FAILED,
    RECEIVED,
    RETRIED,
    STARTED,
    SUCCEEDED,
    contents,
    describe,
    outcome,
)
from carpool_worker.models import Batch
from carpool_worker.states import BatchState


def batch(state: BatchState = BatchState.OPEN, **columns: Any) -> Batch:
    return Batch(id="b" * 32, lane="m", model="m", headers="{}", state=state, opened_at=0, **columns)


@pytest.mark.parametrize(
    ("state", "error", "kind"),
    [
        (BatchState.OPEN, None, RECEIVED),
        (BatchState.SEALED, None, RECEIVED),
        (BatchState.SEALED, "529 overloaded_error: Overloaded", RETRIED),
        (BatchState.SUBMITTING, None, RECEIVED),
        (BatchState.SUBMITTING, "in doubt: no answer", RETRIED),
        (BatchState.IN_PROGRESS, None, STARTED),
        (BatchState.CANCELING, None, STARTED),
        (BatchState.ENDED, None, STARTED),
        (BatchState.COMPLETED, None, SUCCEEDED),
        (BatchState.REJECTED, "400 invalid_request_error: no", FAILED),
    ],
)
def test_every_state_has_its_event(state: BatchState, error: str | None, kind: str) -> None:
    shown, fields = describe(batch(state, last_error=error))

    assert shown == kind
    assert fields.get("exception") == error


def test_what_a_batch_holds_is_said_in_a_few_words() -> None:
    assert contents(batch(request_count=5_000, body_bytes=12_000_000)) == "5,000 requests, 12 MB"
    assert contents(batch(request_count=1, body_bytes=900)) == "1 request, 900 Bytes"
    assert describe(batch())[1]["name"] == "batch m"


def test_how_a_batch_went_is_said_with_its_money() -> None:
    done = batch(
        succeeded=4_990, errored=10, cost=Decimal("1.23"), list_price=Decimal("2.46"), in_progress_at=1_000
    )
    done.ended_at = 4_500

    assert outcome(done) == "4,990 succeeded, 10 errored · $1.23, saved $1.23"
    done.state = BatchState.COMPLETED
    assert describe(done)[1]["runtime"] == 3.5


def test_cents_are_not_rounded_away_and_no_price_is_no_money() -> None:
    cheap = batch(succeeded=1, cost=Decimal("0.0012"), list_price=Decimal("0.0024"))

    assert outcome(cheap) == "1 succeeded · $0.0012, saved $0.0012"
    assert outcome(batch(canceled=2, expired=1)) == "2 canceled, 1 expired"
