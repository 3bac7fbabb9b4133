"""Rows of clients' turns, for the tests of migrations: every column has a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def turns(batches: Sequence[Row]) -> dict[str, list[Row]]:
    """With the column and the table of 0015."""
    return {
        "batches": [one | {"clients": '[2,{"billing":[2,0]},false,true]'} for one in batches],
        "client_turns": [
            {"account": "", "client": "", "served": 4_000},
            {"account": "", "client": "billing", "served": 6_000},
        ],
    }
