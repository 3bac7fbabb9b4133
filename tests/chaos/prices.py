"""The prices of the two models, written down here once more: the check must not rest on the code that it checks.

Anthropic's price list of August 2026, dollars for a million tokens outside a batch: a batch halves them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MILLION = 1_000_000
BATCH = Decimal("0.5")
REAL_TIME = Decimal(1)
PRICES = {
    "claude-haiku-4-5": (Decimal(1), Decimal(5), Decimal(2), Decimal("0.1")),
    "claude-sonnet-4-5": (Decimal(3), Decimal(15), Decimal(6), Decimal("0.3")),
}
"""Input, output, what is written to the cache for an hour (nothing is for less), and what is read from it."""

KINDS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def billed(entry: Mapping[str, Any]) -> Decimal:
    """Return the dollars that one succeeded entry of the simulator's ledger costs, in a batch or not."""
    dollars = (entry[kind] * price for kind, price in zip(KINDS, PRICES[entry["model"]], strict=True))
    share = REAL_TIME if is_real_time(entry) else BATCH
    return share * sum(dollars, Decimal(0)) / MILLION


def is_real_time(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry is that of a call: it has the id of a message, not of a batch."""
    return not entry["batch_id"].startswith("msgbatch_")
