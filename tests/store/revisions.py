"""Rows of each revision of the tables: every column of every table has a value in one of them.

A new revision needs its rows here, or the tests of the migrations fail. Ids are given in their 16 bytes.
"""

from __future__ import annotations

from typing import Any

from tests.store.audit_rows import AUDIT_LOG
from tests.store.call_rows import REAL_TIME_CALL
from tests.store.client_batch_rows import CLIENT_BATCH
from tests.store.gateway_rows import GATEWAY
from tests.store.turn_rows import turns

from carpool.segments import pack

Rows = dict[str, list[dict[str, Any]]]

NOW = 1_800_000_000_000
FILLING = "b" * 32
OVER = "c" * 32
ANSWERED, WAITING, AGAIN, HELD_BACK = "1" * 32, "2" * 32, "3" * 32, "8" * 32
SEGMENT, ANSWERS = (NOW << 20) + 1, (NOW << 20) + 2
MODEL = "claude-haiku-4-5"
CALLBACK = '{"kind": "webhook", "url": "https://example.com/hook"}'
BODY = b'{"type":"succeeded","message":{"content":[{"type":"text","text":"four"}]}}'


def _id(digits: str) -> bytes:
    return bytes.fromhex(digits)


_BATCH: dict[str, Any] = {
    "lane": MODEL,
    "model": MODEL,
    "headers": "{}",
    "request_count": 2,
    "body_bytes": 200,
    "due_at": 0,
    "disowned_ids": "[]",
    "opened_at": NOW,
    "submissions": 0,
    "succeeded": 0,
    "errored": 0,
    "canceled": 0,
    "expired": 0,
}
_REQUEST: dict[str, Any] = {
    "client": "billing",
    "segment_id": SEGMENT,
    "attempt": 1,
    "params_bytes": 2,
    "enqueued_at": NOW,
}
_DELIVERY = {
    "channel": "webhook",
    "target": "https://example.com/hook",
    "receiver": "example.com:443",
    "client": "billing",
    "attempt": 0,
    "due_at": NOW,
    "pending": 1,
    "delivered": 0,
}

_USED = {
    "day": "2027-01-15",
    "client": "billing",
    "account": "second",
    "gateway_key": "books",
    "model": MODEL,
    "processing": "batch",
    "requests": 1,
    "input_tokens": 3,
    "output_tokens": 4,
    "cache_write_tokens": 5,
    "cache_read_tokens": 6,
    "unpriced": 0,
    "cost": 500_000_000_000,
    "list_price": 2**62,
}

FIRST: Rows = {
    "batches": [
        _BATCH | {"id": _id(FILLING), "state": "open"},
        _BATCH
        | {
            "id": _id(OVER),
            "account": "second",
            "shard": 1,
            "state": "completed",
            "claude_id": "msgbatch_01",
            "parent_id": _id("d" * 32),
            "priority": 5,
            "submit_by": NOW,
            "submissions": 2,
            "cursor_id": "msgbatch_00",
            "cursor_at": NOW,
            "in_doubt_at": NOW,
            "search_started_at": NOW,
            "disowned_ids": '["msgbatch_02"]',
            "marked": '["0123456789abcdef"]',
            "warm_up_id": _id("e" * 32),
            "warm_until": NOW,
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
    "segments": [
        {
            "id": SEGMENT,
            "ends_after": NOW,
            "client": "billing",
            "account": "second",
            "gateway_key": "books",
            "model": MODEL,
            "lane": MODEL,
            "headers": "{}",
            "callback": CALLBACK,
            "reply_to": "carpool:reply:1",
            "requests": 4,
            "keyed": 1,
            "ids": b"".join(map(_id, (ANSWERED, WAITING, AGAIN, HELD_BACK))),
        }
    ],
    "params": [{"id": SEGMENT, "body": pack([b"{}"] * 4)}],
    "answers": [{"id": ANSWERS, "client": "billing", "ids": _id(ANSWERED), "body": pack([BODY])}],
    "requests": [
        _REQUEST
        | {
            "id": _id(ANSWERED),
            "position": 0,
            "batch_id": _id(OVER),
            "state": "completed",
            "outcome": "succeeded",
            "batched_at": NOW,
            "priority": 5,
            "submit_by": NOW,
            "deadline": NOW,
            "prefix": -(2**62),
            "metadata": '{"invoice": 42}',
            "idempotency_key": "invoice-42",
            "params_digest": bytes(range(16)),
            "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "client_batch": "msgbatch_of_the_client",
            "custom_id": "42",
            "input_tokens": 3,
            "output_tokens": 4,
            "cache_write_tokens": 5,
            "cache_read_tokens": 6,
            "cost": 500_000_000_000,
            "list_price": 1_000_000_000_000,
            "answer_id": ANSWERS,
            "answer_position": 0,
            "error": "overloaded_error",
            "cancel_requested_at": NOW,
            "finished_at": NOW,
        },
        _REQUEST | {"id": _id(WAITING), "position": 1, "batch_id": _id(FILLING), "state": "batched"},
        _REQUEST
        | {
            "id": _id(AGAIN),
            "position": 2,
            "batch_id": _id(OVER),
            "state": "retryable",
            "outcome": "errored",
            "retry_at": 1,
        },
        _REQUEST
        | {
            "id": _id(HELD_BACK),
            "position": 3,
            "batch_id": _id("0" * 32),
            "state": "retryable",
            "attempt": 0,
            "estimate": 7,
            "held_at": NOW,
            "retry_at": 2**50,
        },
    ],
    "tags": [{"client": "billing", "tag": "invoice", "request_id": _id(ANSWERED)}],
    "cancellations": [{"request_id": "6" * 32, "client": "billing", "requested_at": NOW}],
    "deliveries": [
        _DELIVERY | {"answer_id": ANSWERS, "position": -1, "state": "available", "claims": 2},
        _DELIVERY
        | {
            "answer_id": ANSWERS + 1,
            "position": -1,
            "state": "delivered",
            "pending": 0,
            "delivered": 1,
            "progress": "do",
            "progress_at": NOW,
            "delivered_at": NOW,
        },
        _DELIVERY
        | {
            "answer_id": ANSWERS + 1,
            "position": 1,
            "request_id": _id("5" * 32),
            "attempt": 1,
            "state": "discarded",
            "last_error": "answered 410",
            "discarded_at": NOW,
        },
    ],
    "delivery_attempts": [
        {
            "id": 7,
            "request_id": _id(ANSWERED),
            "attempt": 1,
            "at": NOW,
            "milliseconds": 5,
            "status": 500,
            "detail": "sorry",
        }
    ],
    "parked_receivers": [{"receiver": "slow.example.com:443", "parked_until": NOW, "reason": "slow"}],
    "endpoints": [
        {
            "url": "https://example.com/gone",
            "failing_since": NOW,
            "stopped_at": NOW,
            "reason": "answered 410",
        },
        {"url": "https://example.com/slow", "failing_since": NOW},
    ],
    "lane_pauses": [
        {"lane": MODEL, "reason": "401", "paused_at": NOW, "probe_at": NOW, "probes": 1, "by_operator": True}
    ],
    "durations": [{"model": MODEL, "hour": 23, "bucket": 95, "weight": 1.5}],
    "refusals": [{"model": MODEL, "status": "429", "count": 3}],
    "usage": [_USED],
    "usage_entries": [_USED | {"id": 7}],
}

ACCOUNTS: Rows = FIRST | {
    "batches": [
        *FIRST["batches"][:1],
        *(row | {"poster": "5a17" + "0" * 28, "unseen_since": NOW} for row in FIRST["batches"][1:]),
    ],
    "claude_keys": [
        {
            "fingerprint": "5a17" + "0" * 28,
            "same_as": "5a17" + "0" * 28,
            "account": "second",
            "organization": "org_1",
            "workspace": "wrkspc_1",
            "first_used_at": NOW,
            "saw_ours_at": NOW,
        }
    ],
}
"""With the tables of 0003."""
RESULTS: Rows = ACCOUNTS | {
    "batches": [
        ACCOUNTS["batches"][0],
        ACCOUNTS["batches"][1] | {"incomplete_at": NOW, "stopped_at": NOW},
    ],
    "lane_pauses": [ACCOUNTS["lane_pauses"][0] | {"canceled_id": "msgbatch_01"}],
}
"""With the columns of 0004."""

FENCE: Rows = {
    **RESULTS,
    "batches": [one | {"looked_at": NOW} for one in RESULTS["batches"]],
    "unowned_batches": [
        {
            "claude_id": "msgbatch_orphan",
            "account": "default",
            "headers": "{}",
            "batch_id": _id(OVER),
            "request_count": 2,
            "found_at": NOW,
            "is_lost": True,
            "settled_at": NOW,
        },
    ],
}
"""With the tables of 0005."""

RETRIES: Rows = {**FENCE, "requests": [one | {"retries": 1} for one in FENCE["requests"]]}
"""With the column of 0006."""

AUDIT: Rows = {**RETRIES, "unowned_batches": [one | {"run_twice": 2} for one in RETRIES["unowned_batches"]]}
"""With the column of 0007."""

LARGE: Rows = {
    **AUDIT,
    "batches": [one | {"tallied_at": NOW} for one in AUDIT["batches"]],
    "batch_totals": [
        {
            "model": MODEL,
            "completed": 1,
            "rejected": 0,
            "submissions": 2,
            "succeeded": 1,
            "errored": 1,
            "canceled": 0,
            "expired": 0,
        }
    ],
    "batch_stays": [{"state": "open", "bound": 60, "batches": 1, "milliseconds": 30_000}],
}
"""With the tables of 0008; the migration itself writes the row of schema_support."""

LEDGER = LARGE | {"pruner_positions": [{"walk": "batches", "last": _id(OVER)}]}
"""With the table of 0010."""

KEYS = LEDGER | GATEWAY
"""With the tables of 0011."""

CLIENT_BATCHES: Rows = {**KEYS, "client_batches": [CLIENT_BATCH]}
"""With the table of 0012."""

DEADLINES: Rows = {
    **CLIENT_BATCHES,
    "batches": [one | {"deadline": NOW} for one in LARGE["batches"]],
    "requests": [one | {"deadline_policy": "pay_again"} for one in RETRIES["requests"]],
    "gateway_keys": [
        one | {"deadline": 3_600, "deadline_policy": "batch"} for one in GATEWAY["gateway_keys"]
    ],
}
"""With the columns of 0013."""

CALLS: Rows = {**DEADLINES, "real_time_calls": [REAL_TIME_CALL]}
"""With the table of 0014."""

TURNS: Rows = {**CALLS, **turns(CALLS["batches"])}
"""With the column and the table of 0015."""

RENAMED: dict[str, dict[str, dict[str, str]]] = {}
"""The columns that a revision renamed, a table each, by the names they had before."""

LATER = (
    "deliveries",
    "delivery_attempts",
    "parked_receivers",
    "endpoints",
    "lane_pauses",
    "durations",
    "refusals",
    "usage",
    "usage_entries",
)
"""The tables of 0002."""

ROWS: dict[str, Rows] = {
    "0001": {name: rows for name, rows in FIRST.items() if name not in LATER},
    "0002": FIRST,
    "0003": ACCOUNTS,
    "0004": RESULTS,
    "0005": FENCE,
    "0006": RETRIES,
    "0007": AUDIT,
    "0008": LARGE,
    "0009": LARGE,
    "0010": LEDGER,
    "0011": KEYS,
    "0012": CLIENT_BATCHES,
    "0013": DEADLINES,
    "0014": CALLS,
    "0015": TURNS,
    "0016": {**TURNS, **AUDIT_LOG},
}
