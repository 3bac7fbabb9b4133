"""A row of a call in real time, for the tests of migrations: every column has a value."""

from __future__ import annotations

from typing import Any

NOW = 1_800_000_000_000

REAL_TIME_CALL: dict[str, Any] = {
    "request_id": bytes.fromhex("e" * 32),
    "round": 1,
    "state": "answered",
    "batch_id": bytes.fromhex("b" * 32),
    "client": "billing",
    "account": "second",
    "model": "claude-haiku-4-5",
    "lane": "claude-haiku-4-5",
    "deadline": NOW + 3_600_000,
    "estimate": 2**61,
    "added": 2**60,
    "queued_at": NOW,
    "due_at": NOW + 1,
    "submissions": 2,
    "caller": "c" * 32,
    "lease_until": NOW + 2,
    "suspected_at": NOW + 3,
    "calling_at": NOW + 4,
    "finished_at": NOW + 5,
    "claude_id": "msg_01",
    "cost": 2**59,
    "batch_cost": 2**58,
    "batch_billed_at": NOW + 6,
    "last_error": "529 overloaded_error: Overloaded",
}
