"""Rows of the gateway's tables, for the tests of the migrations."""

from __future__ import annotations

from typing import Any

NOW = 1_800_000_000_000
KEY = bytes.fromhex("4" * 32)

GATEWAY: dict[str, list[dict[str, Any]]] = {
    "gateway_keys": [
        {
            "id": KEY,
            "name": "billing-nightly",
            "client": "billing",
            "scopes": '["messages"]',
            "models": '["claude-haiku-*"]',
            "callback_hosts": "[]",
            "requests_a_minute": 60,
            "most_queued": 1_000,
            "most_held": 10,
            "day": 2**62,
            "month": 2**62,
            "over": "refuse",
            "lowest_priority": -100,
            "highest_priority": 5,
            "workspaces": True,
            "created_at": NOW,
            "expires_at": NOW,
            "expires_after": 86_400_000,
            "first_used_at": NOW,
            "last_used_at": NOW,
            "revoked_at": NOW,
        }
    ],
    "gateway_secrets": [
        {
            "hash": "5" * 64,
            "key_id": KEY,
            "hint": "Ab3dEf6h",
            "created_at": NOW,
            "valid_until": NOW,
        }
    ],
    "budget_warnings": [
        {
            "gateway_key": "billing-nightly",
            "period": "2027-01-15",
            "percent": 80,
            "warned_at": NOW,
            "due_at": NOW,
            "attempts": 2,
            "budget": 2**62,
            "used": 2**61,
        }
    ],
    "webhook_secrets": [
        {"client": "billing", "number": 1, "secret": "whsec_1", "created_at": NOW, "valid_until": NOW}
    ],
}
