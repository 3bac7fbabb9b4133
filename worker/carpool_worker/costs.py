"""What an answer cost: `genai-prices` knows the prices, batch rates included; nothing here repeats one.

The API's `input_tokens` excludes cached tokens, the price library's includes them. A batch halves every token
kind; web searches are not halved (both are the library's knowledge, from Anthropic's price list).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import cast

import msgspec
from genai_prices import Usage, calc_price
from genai_prices.types import TieredPrices


class CacheCreation(msgspec.Struct, frozen=True):
    """Tokens written to the prompt cache, by time to live."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class ServerTools(msgspec.Struct, frozen=True):
    """Server tools that an answer used."""

    web_search_requests: int = 0


class Tokens(msgspec.Struct, frozen=True):
    """The parts of a Message's `usage` that are billed, as the API names them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerTools | None = None

    @property
    def cache_write_tokens(self) -> int:
        """Tokens written to the cache, whatever their time to live."""
        return self.cache_creation_input_tokens or 0

    @property
    def cache_read_tokens(self) -> int:
        """Tokens read from the cache."""
        return self.cache_read_input_tokens or 0


@dataclass(frozen=True, slots=True)
class Price:
    """What one answer cost in a batch, and what it would have cost outside one. Dollars."""

    cost: Decimal
    list_price: Decimal


def price_of(tokens: Tokens, model: str, day: date) -> Price | None:
    """Return what these tokens cost on that day (UTC), or None where the model has no known price."""
    thresholds = _thresholds(model, day)
    if thresholds is None:
        return None
    counts = _counts(tokens)
    total_input = counts[0] + counts[2] + counts[3] + counts[4]
    tier = max(start for start in thresholds if start <= total_input)
    return Price(_sum(counts, _rates(model, day, True, tier)), _sum(counts, _rates(model, day, False, tier)))


Counts = tuple[int, int, int, int, int, int]
KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "web_searches",
)


def _sum(counts: Counts, rates: tuple[Decimal, ...]) -> Decimal:
    return sum((rate * count for count, rate in zip(counts, rates, strict=True) if count), Decimal(0))


def _counts(tokens: Tokens) -> Counts:
    longer = tokens.cache_creation.ephemeral_1h_input_tokens if tokens.cache_creation else 0
    searches = tokens.server_tool_use.web_search_requests if tokens.server_tool_use else 0
    return (
        tokens.input_tokens,
        tokens.output_tokens,
        tokens.cache_read_tokens,
        tokens.cache_write_tokens - longer,
        longer,
        searches,
    )


@lru_cache(maxsize=512)
def _rates(model: str, day: date, in_batch: bool, total_input: int) -> tuple[Decimal, ...]:
    """Return dollars a unit, in the order of KINDS, for a request whose input is just above `total_input`.

    The library takes 0.3 ms a price; within a tier prices are linear, so they are learnt from it once.
    """
    at = _noon(day)
    anchor = (total_input, 0, 0, 0, 0, 0)
    floor = _ask(model, at, in_batch, anchor)
    probes = [tuple(n + (kind == probed) for n, kind in zip(anchor, KINDS, strict=True)) for probed in KINDS]
    return tuple(_ask(model, at, in_batch, cast(Counts, probe)) - floor for probe in probes)


@lru_cache(maxsize=512)
def _thresholds(model: str, day: date) -> tuple[int, ...] | None:
    """Return the input lengths above which other prices hold (none but 0 for most models), or None: unknown."""
    try:
        known = calc_price(
            Usage(input_tokens=1), model, provider_id="anthropic", genai_request_timestamp=_noon(day)
        )
    except LookupError:
        return None
    tiered = [price for price in vars(known.model_price).values() if isinstance(price, TieredPrices)]
    return tuple(sorted({0, *(tier.start + 1 for price in tiered for tier in price.tiers)}))


def _noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def _ask(model: str, at: datetime, in_batch: bool, counts: Counts) -> Decimal:
    uncached, output, read, write, write_longer, searches = counts
    usage = Usage(
        input_tokens=uncached + read + write + write_longer,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=write + write_longer,
        cache_write_1h_tokens=write_longer,
        web_searches=searches,
    )
    context = {"processing": "batch"} if in_batch else None
    return calc_price(
        usage, model, provider_id="anthropic", genai_request_timestamp=at, price_context=context
    ).total_price
