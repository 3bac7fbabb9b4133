"""Rows of each revision of the tables: every column of every table has a value in one of them.

A new revision needs its rows here, or the tests of the migrations fail.
"""

from __future__ import annotations

from typing import Any

Rows = dict[str, list[dict[str, Any]]]

NOW = 1_800_000_000_000
FILLING = "b" * 32
OVER = "c" * 32
ANSWERED, WAITING, AGAIN, HELD_BACK = "1" * 32, "2" * 32, "3" * 32, "8" * 32
MODEL = "claude-haiku-4-5"
CALLBACK = '{"kind": "webhook", "url": "https://example.com/hook"}'
BODY = b'{"type":"succeeded","message":{"content":[{"type":"text","text":"four"}]}}'

_BATCH: dict[str, Any] = {
    "lane": MODEL,
    "model": MODEL,
    "headers": "{}",
    "request_count": 2,
    "body_bytes": 200,
    "due_at": 0,
    "strangers": "[]",
    "opened_at": NOW,
    "submissions": 0,
    "succeeded": 0,
    "errored": 0,
    "canceled": 0,
    "expired": 0,
}
_REQUEST: dict[str, Any] = {
    "client": "billing",
    "model": MODEL,
    "lane": MODEL,
    "headers": "{}",
    "attempt": 1,
    "params_bytes": 2,
    "enqueued_at": NOW,
    "batched_at": NOW,
    "callback": CALLBACK,
}
_DELIVERY = {"channel": "webhook", "target": "https://example.com/hook", "attempt": 0, "due_at": NOW}

FIRST: Rows = {
    "batches": [
        _BATCH | {"id": FILLING, "state": "open"},
        _BATCH
        | {
            "id": OVER,
            "state": "completed",
            "claude_id": "msgbatch_01",
            "parent_id": "d" * 32,
            "submissions": 2,
            "cursor_id": "msgbatch_00",
            "in_doubt_at": NOW,
            "strangers": '["msgbatch_02"]',
            "last_error": "overloaded",
            "succeeded": 1,
            "errored": 1,
            "cost": 500_000_000_000,
            "list_price": 2**62,
            "sealed_at": NOW,
            "submitting_at": NOW,
            "in_progress_at": NOW,
            "expires_at": NOW,
            "ended_at": NOW,
            "finished_at": NOW,
        },
    ],
    "requests": [
        _REQUEST
        | {
            "id": ANSWERED,
            "batch_id": OVER,
            "state": "completed",
            "outcome": "succeeded",
            "metadata": '{"invoice": 42}',
            "idempotency_key": "invoice-42",
            "input_tokens": 3,
            "output_tokens": 4,
            "cache_write_tokens": 5,
            "cache_read_tokens": 6,
            "cost": 500_000_000_000,
            "list_price": 1_000_000_000_000,
            "finished_at": NOW,
        },
        _REQUEST | {"id": WAITING, "batch_id": FILLING, "state": "batched"},
        _REQUEST | {"id": AGAIN, "batch_id": OVER, "state": "retryable", "outcome": "errored", "retry_at": 1},
    ],
    "params": [{"request_id": id_, "body": b"{}"} for id_ in (ANSWERED, WAITING, AGAIN)],
    "answers": [{"request_id": ANSWERED, "body": BODY}],
    "deliveries": [
        _DELIVERY | {"request_id": ANSWERED, "state": "available"},
        _DELIVERY | {"request_id": "4" * 32, "state": "delivered", "attempt": 1, "delivered_at": NOW},
        _DELIVERY
        | {"request_id": "5" * 32, "state": "discarded", "last_error": "answered 410", "discarded_at": NOW},
    ],
    "delivery_attempts": [
        {
            "id": 7,
            "request_id": ANSWERED,
            "attempt": 1,
            "at": NOW,
            "milliseconds": 5,
            "status": 500,
            "detail": "sorry",
        }
    ],
    "endpoints": [{"url": "https://example.com/gone", "stopped_at": NOW, "reason": "answered 410"}],
    "usage": [
        {
            "day": "2027-01-15",
            "client": "billing",
            "model": MODEL,
            "requests": 1,
            "input_tokens": 3,
            "output_tokens": 4,
            "cache_write_tokens": 5,
            "cache_read_tokens": 6,
            "unpriced": 0,
            "cost": 500_000_000_000,
            "list_price": 2**62,
        }
    ],
}


def _with(rows: Rows, table: str, **values: Any) -> list[dict[str, Any]]:
    return [row | values for row in rows[table]]


SECOND: Rows = FIRST | {
    "batches": _with(
        FIRST, "batches", cursor_at=NOW, sought_at=NOW, params_pruned_at=NOW, answers_pruned_at=NOW
    ),
    "requests": _with(FIRST, "requests", cancel_requested_at=NOW),
    "deliveries": _with(FIRST, "deliveries", claims=2),
    "endpoints": [
        *_with(FIRST, "endpoints", failing_since=NOW),
        {"url": "https://example.com/slow", "failing_since": NOW},
    ],
    "cancellations": [{"request_id": "6" * 32, "client": "billing", "requested_at": NOW}],
    "lane_pauses": [
        {"lane": MODEL, "reason": "401", "paused_at": NOW, "probe_at": NOW, "probes": 1, "by_operator": True}
    ],
}

THIRD: Rows = SECOND | {
    "batches": _with(
        SECOND,
        "batches",
        priority=5,
        submit_by=NOW,
        marked='["0123456789abcdef"]',
        warm_up_id="e" * 32,
        warm_until=NOW,
    ),
    "requests": [
        *_with(
            SECOND,
            "requests",
            priority=5,
            submit_by=NOW,
            prefix="0123456789abcdef",
            trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            estimate=5_000_000_000,
        ),
        _REQUEST
        | {
            "id": HELD_BACK,
            "batch_id": "",
            "state": "retryable",
            "attempt": 0,
            "estimate": 7,
            "held_at": NOW,
        },
    ],
    "refusals": [{"model": MODEL, "status": "429", "count": 3}],
}

RENAMED = {"0004": {"batches": {"strangers": "disowned_ids", "sought_at": "search_started_at"}}}
"""The columns that a revision renamed, by the names they had before."""

FOURTH: Rows = THIRD | {
    "batches": [
        {RENAMED["0004"]["batches"].get(column, column): value for column, value in row.items()}
        for row in THIRD["batches"]
    ]
}

FIFTH: Rows = FOURTH | {"durations": [{"model": MODEL, "hour": 23, "bucket": 95, "weight": 1.5}]}

ROWS: dict[str, Rows] = {"0001": FIRST, "0002": SECOND, "0003": THIRD, "0004": FOURTH, "0005": FIFTH}
