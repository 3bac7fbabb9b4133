"""What a batch's row in Flower says at each step of its life. Pure; no row has a prompt, an answer or a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from carpool_worker.formatting import clock, contents, outcome, outcome_counts
from carpool_worker.states import BatchState

if TYPE_CHECKING:  # Flower needs a name of this module alone
    from carpool_worker.models import Batch

RECEIVED = "task-received"
STARTED = "task-started"
SUCCEEDED = "task-succeeded"
FAILED = "task-failed"
RETRIED = "task-retried"

WARNING = "⚠"
"""Begins the result of a batch of which some requests failed: its state is that of the others."""

PAUSED = "lane paused"

NAME = "batch "
"""What the names of rows that are batches begin with; the model follows."""


def describe(
    batch: Batch, due_at: int, errors: Mapping[str, int] | None = None, paused: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the event for a batch in its present state: its type, and everything in its row.

    `due_at` is when it is sealed at the latest, in milliseconds since the epoch; `errors` are how many of its requests
    failed with which type of error; `paused` is why its lane is paused, None if it isn't.

    Every event is complete, so that one is enough if earlier ones were lost. Its times are the batch's own, in seconds
    since the epoch. It has no runtime: Flower would count that in its metrics with every event.
    """
    paused = paused if batch.state in (BatchState.OPEN, BatchState.SEALED) else None
    kind, due = _kind(batch, paused), _moment(due_at)
    return kind, {
        "name": f"{NAME}{batch.model}",
        "args": contents(batch.request_count, batch.body_bytes),
        "kwargs": _details(batch),
        "result": _story(batch, kind, due_at, errors or {}, paused),
        "exception": _exception(batch, kind, errors or {}, paused),
        "traceback": None,
        "retries": max(0, batch.submissions - 1),
        # Without it every event would move Flower's gauges of prefetched tasks.
        "eta": due.isoformat(timespec="seconds"),
        "expires": _moment(batch.expires_at).isoformat(timespec="seconds") if batch.expires_at else None,
        "parent_id": batch.parent_id,
        **_times(batch, kind),
    }


def _kind(batch: Batch, paused: str | None) -> str:
    match batch.state:
        case BatchState.OPEN | BatchState.SEALED | BatchState.SUBMITTING:
            return RETRIED if batch.last_error or paused else RECEIVED
        case BatchState.COMPLETED:
            return FAILED if _failed(batch) and not batch.outcomes.get("succeeded") else SUCCEEDED
        case BatchState.REJECTED:
            return FAILED
        case _:
            return STARTED


def _failed(batch: Batch) -> int:
    return sum(batch.outcomes.get(name, 0) for name in ("errored", "expired"))


def _exception(batch: Batch, kind: str, errors: Mapping[str, int], paused: str | None) -> str | None:
    if kind not in (RETRIED, FAILED):
        return None
    return batch.last_error or (f"{PAUSED}: {paused}" if paused else outcome_counts(errors) or None)


def _story(batch: Batch, kind: str, due_at: int, errors: Mapping[str, int], paused: str | None) -> str:
    """Return how a batch ended, or what is happening to it."""
    match batch.state:
        case BatchState.COMPLETED:
            ended = outcome(batch.outcomes, batch.cost, batch.list_price)
            failed = f" · failed: {outcome_counts(errors)}" if errors else ""
            warning = f"{WARNING} " if _failed(batch) else ""
            return (
                f"{warning}{ended}{failed}"
                if ended or failed
                else "not sent: all of its requests were canceled"
            )
        case BatchState.REJECTED:
            return f"rejected: {batch.last_error or 'no reason was given'}"
        case _ if paused:
            return f"{PAUSED}: {paused}"
        case _ if kind == RETRIED:
            return f"waits: {batch.last_error}"
        case BatchState.OPEN:
            return f"fills until {clock(due_at, batch.opened_at)}"
        case BatchState.SEALED:
            return "waits to be sent"
        case BatchState.SUBMITTING:
            return "is being sent"
        case BatchState.CANCELING:
            return "is being canceled at Anthropic"
        case BatchState.ENDED:
            again = f", read again: {batch.last_error}" if batch.last_error else ""
            return f"its results are being fetched: {outcome_counts(batch.outcomes)}{again}"
        case _:
            return "runs at Anthropic"


def _details(batch: Batch) -> str:
    """Return what operators look up: Anthropic's id of the batch, and its headers."""
    headers = [f"{name}: {value}" for name, value in json.loads(batch.headers).items()]
    return ", ".join([*filter(None, [batch.claude_id]), *headers])


def _times(batch: Batch, kind: str) -> dict[str, float]:
    milliseconds = {
        "received": batch.opened_at,
        "started": batch.in_progress_at,
        "succeeded": (batch.ended_at or batch.finished_at) if kind == SUCCEEDED else None,
        "failed": batch.finished_at if kind == FAILED else None,
    }
    return {name: at / 1000 for name, at in milliseconds.items() if at is not None}


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def answer_time(batch: Batch) -> float:
    """Return the seconds that Anthropic took for a batch; 0 if it never got it.

    Otherwise at least a millisecond: the two times come from different clocks, and Flower ignores a runtime of zero.
    """
    if batch.in_progress_at is None or batch.ended_at is None:
        return 0.0
    return max(1, batch.ended_at - batch.in_progress_at) / 1000
