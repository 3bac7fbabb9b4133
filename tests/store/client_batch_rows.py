"""A row of a client's batch, for the tests of migrations: every column has a value."""

from __future__ import annotations

from typing import Any

NOW = 1_800_000_000_000

CLIENT_BATCH: dict[str, Any] = {
    "id": bytes.fromhex("d" * 32),
    "created_at": NOW,
    "expires_at": NOW + 86_400_000,
    "cancel_initiated_at": NOW + 1,
    "ended_at": NOW + 2,
    "lapsed_at": NOW + 3,
    "archived_at": NOW + 4,
    "cost": 5,
    "list_price": 10,
    "request_count": 10,
    "processing": 0,
    "succeeded": 1,
    "errored": 2,
    "canceled": 3,
    "expired": 4,
    "ends": 1,
    "is_retry": True,
    "client": "billing",
    "gateway_key": "billing-1",
    "digest": b"d" * 32,
    "idempotency_key": "invoices-42",
    "callback": '{"kind": "webhook", "url": "https://example.com/hook"}',
    "origin": "https://gateway.example.com",
    "segments": ((NOW << 20) + 1).to_bytes(8, "little"),
}
