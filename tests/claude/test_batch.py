"""A batch is read from whatever has its id: relays leave fields out, or fill them oddly."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types.messages import MessageBatch

from carpool_worker.claude.batch import read_batch
from carpool_worker.exceptions import ClaudeError
from carpool_worker.units import DAY, Milliseconds

WHOLE: dict[str, Any] = {
    "id": "msgbatch_01",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"processing": 5, "succeeded": 1, "errored": 2, "canceled": 0, "expired": 0},
    "created_at": "2026-11-22T12:00:00.5+00:00",
    "expires_at": "2026-11-23T12:00:00.5Z",
    "ended_at": None,
    "cancel_initiated_at": None,
    "archived_at": None,
    "results_url": None,
}
CREATED = 1_795_348_800_500


def read(**fields: Any) -> Any:
    return read_batch(MessageBatch.construct(**{**WHOLE, **fields}))


def test_a_whole_batch() -> None:
    batch = read()

    assert (batch.id, batch.request_count, batch.succeeded, batch.errored) == ("msgbatch_01", 8, 1, 2)
    assert (batch.created_at, batch.expires_at) == (CREATED, CREATED + DAY)
    assert (batch.ended_at, batch.canceled_at) == (None, None)


@pytest.mark.parametrize("odd", [None, "soon", 7, {}, [], True, "9" * 400, float("inf")])
@pytest.mark.parametrize("name", [name for name in WHOLE if name != "id"])
def test_an_odd_field_costs_only_itself(name: str, odd: Any) -> None:
    batch = read(**{name: odd})

    assert batch.id == "msgbatch_01"
    assert batch.request_count == (None if name == "request_counts" else 8)
    assert batch.may_have(8)
    assert batch.may_have(9) == (name == "request_counts")
    assert isinstance(batch.expires_by(Milliseconds(5)), int)
    if name != "expires_at":
        assert batch.expires_at == CREATED + DAY


def test_nothing_but_an_id_is_a_batch() -> None:
    batch = read_batch(MessageBatch.construct(id="msgbatch_01"))

    assert (batch.request_count, batch.created_at, batch.expires_at) == (None, None, None)
    assert batch.expires_by(Milliseconds(5)) == 5 + DAY


@pytest.mark.parametrize("count", [-1, 2**31, 2**70, 1.5, "1", None, True])
def test_a_count_that_none_can_have_is_not_said(count: Any) -> None:
    batch = read(request_counts={**WHOLE["request_counts"], "errored": count})

    assert (batch.request_count, batch.errored, batch.succeeded) == (None, 0, 1)


@pytest.mark.parametrize("claude_id", [None, "", 7, "a b", "a\0", "\ud800", "é", "x" * 201, {}, ["x"]])
def test_without_an_id_it_is_no_batch_and_nobody_knows_what_was_done(claude_id: Any) -> None:
    with pytest.raises(ClaudeError) as caught:
        read(id=claude_id)

    assert not caught.value.certain


@pytest.mark.parametrize("answer", ["<html>", None, 7, [], {}])
def test_what_is_no_object_is_no_batch(answer: Any) -> None:
    with pytest.raises(ClaudeError):
        read_batch(answer)
