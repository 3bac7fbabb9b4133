"""Rows of the audit log, for the tests of migrations: every column has a value."""

from __future__ import annotations

AUDIT_LOG = {
    "audit_log": [
        {
            "id": "0192f0c0000070008000000000000a01",
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
