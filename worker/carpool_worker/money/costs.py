"""What an answer cost: the billed parts of its `usage`, at the prices of its day.

The API's `input_tokens` excludes cached tokens.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec

from carpool_worker.money.prices import Counts, Price, model_prices

WITHIN_US = "us"
"""The `usage.inference_geo` of an answer that was run within the US only."""


Count = Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]
"""More than any answer can use, and few enough that the price fits into the tables."""


class CacheCreation(msgspec.Struct, frozen=True):
    """Tokens written to the prompt cache, by time to live."""

    ephemeral_5m_input_tokens: Count = 0
    ephemeral_1h_input_tokens: Count = 0


class ServerTools(msgspec.Struct, frozen=True):
    """Server tools that an answer used."""

    web_search_requests: Count = 0


class Tokens(msgspec.Struct, frozen=True):
    """The parts of a Message's `usage` that are billed, as the API names them."""

    input_tokens: Count
    output_tokens: Count
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerTools | None = None
    inference_geo: str | None = None

    @property
    def cache_write_tokens(self) -> int:
        """Tokens written to the cache, of any time to live; the breakdown counts where it has more than the total."""
        total = self.cache_creation_input_tokens or 0
        split = self.cache_creation
        if split is None:
            return total
        return max(total, split.ephemeral_5m_input_tokens + split.ephemeral_1h_input_tokens)

    @property
    def cache_read_tokens(self) -> int:
        """Tokens read from the cache."""
        return self.cache_read_input_tokens or 0


def price_of(tokens: Tokens, model: str, day: date) -> Price | None:
    """Return what these tokens cost on that day (UTC), or None if the model, or one of their kinds, has no price."""
    prices = model_prices(model, day, tokens.inference_geo == WITHIN_US)
    return None if prices is None else prices.price(_counts(tokens))


def _counts(tokens: Tokens) -> Counts:
    longer = tokens.cache_creation.ephemeral_1h_input_tokens if tokens.cache_creation else 0
    searches = tokens.server_tool_use.web_search_requests if tokens.server_tool_use else 0
    shorter = tokens.cache_write_tokens - longer
    return tokens.input_tokens, tokens.output_tokens, tokens.cache_read_tokens, shorter, longer, searches
