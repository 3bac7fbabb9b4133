"""What an answer cost: `genai-prices` knows the prices, batch rates included; nothing here repeats one.

The API's `input_tokens` excludes cached tokens, the price library's includes them. A batch halves every token
kind; web searches are not halved (both are the library's knowledge, from Anthropic's price list).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple, cast

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


DOLLAR = 10**12
"""Money is counted in whole picodollars: the cheapest token known costs 15,000 of them. Integers, so sums are exact."""

Counts = tuple[int, int, int, int, int, int]
KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "web_searches",
)


class Price(NamedTuple):
    """What one answer cost in a batch, and what it would have cost outside one. Picodollars."""

    cost: int
    list_price: int


def price_of(tokens: Tokens, model: str, day: date) -> Price | None:
    """Return what these tokens cost on that day (UTC), or None where the model has no known price."""
    tariff = tariff_of(model, day)
    return None if tariff is None else tariff.price(_counts(tokens))


def _counts(tokens: Tokens) -> Counts:
    longer = tokens.cache_creation.ephemeral_1h_input_tokens if tokens.cache_creation else 0
    searches = tokens.server_tool_use.web_search_requests if tokens.server_tool_use else 0
    shorter = tokens.cache_write_tokens - longer
    return tokens.input_tokens, tokens.output_tokens, tokens.cache_read_tokens, shorter, longer, searches


@dataclass(frozen=True, slots=True)
class Tariff:
    """A model's prices on a day. The library takes 0.3 ms a price; within a tier prices are linear, so they are
    learnt from it once.
    """

    thresholds: tuple[int, ...]  # input tokens from which a tier holds, the highest first
    in_batch: tuple[Counts, ...]  # picodollars a unit, in the order of KINDS, for each tier
    standard: tuple[Counts, ...]

    def price(self, counts: Counts) -> Price:
        """Return the price of these counts."""
        uncached, _, read, write, longer, _ = counts
        total = uncached + read + write + longer
        tier = 0
        while total < self.thresholds[tier]:  # the last one is 0
            tier += 1
        return Price(_sum(counts, self.in_batch[tier]), _sum(counts, self.standard[tier]))


@lru_cache(maxsize=512)
def tariff_of(model: str, day: date) -> Tariff | None:
    """Return a model's prices on a day (UTC), or None where they are unknown."""
    at = datetime.combine(day, time(12), UTC)
    try:
        known = calc_price(Usage(input_tokens=1), model, provider_id="anthropic", genai_request_timestamp=at)
    except LookupError:
        return None
    tiered = [price for price in vars(known.model_price).values() if isinstance(price, TieredPrices)]
    starts = {0, *(tier.start + 1 for price in tiered for tier in price.tiers)}
    thresholds = tuple(sorted(starts, reverse=True))
    in_batch, standard = (
        tuple(_rates(model, at, batch, threshold) for threshold in thresholds) for batch in (True, False)
    )
    return Tariff(thresholds, in_batch, standard)


def _rates(model: str, at: datetime, in_batch: bool, total_input: int) -> Counts:
    anchor = (total_input, 0, 0, 0, 0, 0)
    floor = ask(model, at, in_batch, anchor)
    probes = [tuple(n + (kind == probed) for n, kind in zip(anchor, KINDS, strict=True)) for probed in KINDS]
    rates = tuple(ask(model, at, in_batch, cast(Counts, probe)) - floor for probe in probes)
    return cast(Counts, tuple(int(rate * DOLLAR) for rate in rates))


def _sum(n: Counts, rate: Counts) -> int:
    return n[0] * rate[0] + n[1] * rate[1] + n[2] * rate[2] + n[3] * rate[3] + n[4] * rate[4] + n[5] * rate[5]


def ask(model: str, at: datetime, in_batch: bool, counts: Counts) -> Decimal:
    """Return the library's own price of these counts, in dollars."""
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
