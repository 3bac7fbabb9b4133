"""The prices of the two models, written down here once more: the check must not rest on the code that it checks.

Anthropic's price list of August 2026, dollars for a million tokens outside a batch: a batch halves them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MILLION = 1_000_000
BATCH = Decimal("0.5")
PRICES = {
    "claude-haiku-4-5": (Decimal(1), Decimal(5)),
    "claude-sonnet-4-5": (Decimal(3), Decimal(15)),
}
"""Input and output. Nothing here is cached: no request asks for it."""


def billed(entry: Mapping[str, Any]) -> Decimal:
    """Return the dollars that one succeeded entry of the simulator's ledger costs."""
    if entry["cache_creation_input_tokens"] or entry["cache_read_input_tokens"]:
        raise ValueError("a cached request: these prices know none")
    price_in, price_out = PRICES[entry["model"]]
    dollars: Decimal = (
        BATCH * (entry["input_tokens"] * price_in + entry["output_tokens"] * price_out) / MILLION
    )
    return dollars
