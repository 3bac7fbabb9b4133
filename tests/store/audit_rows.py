"""Rows of the audit log, for the tests of migrations: every column has a value."""

from __future__ import annotations

from typing import Any

AUDIT_LOG: dict[str, list[dict[str, Any]]] = {
    "audit_log": [
        {
            "id": bytes.fromhex("a" * 32),
            "at": 1_700_000_000_000,
            "actor": "key ops",
            "action": "retry",
            "what": "3 requests",
            "details": '{"cost": "0.10"}',
            "client": "billing",
            "outcome": "failed",
            "error": "They are not finished.",
        }
    ]
}
