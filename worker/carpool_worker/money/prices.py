"""The prices of a model on a day, as `genai-prices` has them, or the settings; none is repeated here.

A batch halves the price of every kind of token, but not of web searches (Anthropic's price list). The library has batch
rates from 14 October 2026 on, and not for every older model; where it has none it silently returns the list price, so
that is halved here. Its `input_tokens` includes cached tokens, the API's excludes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache, lru_cache
from typing import NamedTuple, cast

from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TieredPrices

from carpool_worker.money.overrides import PriceOverride, override_of
from carpool_worker.units import DOLLAR, Picodollars

BATCH_DISCOUNT = 2
"""A batch divides the price of every kind of token by this (Anthropic's price list, "Batch processing")."""

US_PERCENT = 110
"""Of the price of every kind of token, for an answer run within the US only (its price list, "Data residency")."""

VERSIONED = re.compile(r"claude-(?P<family>[a-z]+)-(?P<version>\d+(-\d{1,2})?)")
"""How the library names models without a date; those before version 4 were named otherwise."""

Counts = tuple[int, int, int, int, int, int]
KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "web_searches",
)
SEARCHES = KINDS.index("web_searches")


class Price(NamedTuple):
    """What one answer cost in a batch, and what it would have cost outside one, in picodollars."""

    cost: Picodollars
    list_price: Picodollars

    @property
    def in_full(self) -> Price:
        """The price of the same answer, made outside a batch."""
        return Price(self.list_price, self.list_price)

    @property
    def without_use(self) -> Price:
        """The price of the same answer to a request that has one already: nobody would have paid for it otherwise."""
        return Price(self.cost, Picodollars(0))


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """A model's prices on a day. Within a tier prices are linear, so the library, which takes 0.3 ms for each, is
    called only once.
    """

    thresholds: tuple[int, ...]  # input tokens from which a tier applies, the highest first
    in_batch: tuple[Counts, ...]  # picodollars for one of each of KINDS, by tier
    standard: tuple[Counts, ...]
    unknown: tuple[int, ...] = ()  # which of KINDS have no price

    def discounted(self, percent: Decimal) -> ModelPrices:
        """Return these prices less so many percent, in a batch and outside."""
        in_batch, standard = (
            tuple(cast(Counts, tuple(_less(rate, percent) for rate in rates)) for rates in tiers)
            for tiers in (self.in_batch, self.standard)
        )
        return replace(self, in_batch=in_batch, standard=standard)

    def price(self, counts: Counts) -> Price | None:
        """Return the price of these counts, or None if one of them is of a kind without a known price."""
        if self.unknown and any(counts[kind] for kind in self.unknown):
            return None
        uncached, _, read, write, longer, _ = counts
        total = uncached + read + write + longer
        tier = 0
        while total < self.thresholds[tier]:  # the last one is 0
            tier += 1
        return Price(_sum(counts, self.in_batch[tier]), _sum(counts, self.standard[tier]))


def model_prices(model: str, day: date, in_us: bool = False) -> ModelPrices | None:
    """Return a model's prices on a day (UTC), or None if unknown; `in_us`: for answers run within the US only."""
    return _model_prices(model, day, in_us, override_of(model))


@lru_cache(maxsize=512)
def _model_prices(model: str, day: date, in_us: bool, override: PriceOverride | None) -> ModelPrices | None:
    if override is None:
        return _library_prices(model, day, in_us)
    if (rates := override.rates) is not None:
        return _own_prices(cast(Counts, rates), override, in_us)
    known = _library_prices(model, day, in_us)
    return known and known.discounted(override.discount or Decimal(0))


@cache
def newest_model(family: str) -> str | None:
    """Return the model of a family, as "haiku", with the highest version that the library has prices of, if any."""
    models = get_snapshot().find_provider(None, "anthropic", None).models
    versions = [
        ([int(part) for part in match["version"].split("-")], match[0])
        for match in (VERSIONED.fullmatch(one.id) for one in models)
        if match and match["family"] == family
    ]
    return max(versions)[1] if versions else None


def _own_prices(rates: Counts, override: PriceOverride, in_us: bool) -> ModelPrices:
    tokens = [rate * US_PERCENT // 100 if in_us else rate for rate in rates[:SEARCHES]]
    in_batch = [_less(rate, override.batch_discount) for rate in tokens]
    return ModelPrices(
        thresholds=(0,),
        in_batch=(cast(Counts, (*in_batch, rates[SEARCHES])),),
        standard=(cast(Counts, (*tokens, rates[SEARCHES])),),
        unknown=(SEARCHES,) if override.web_search is None else (),
    )


def _less(rate: int, percent: Decimal) -> int:
    return int(rate * (100 - percent) / 100)


def _library_prices(model: str, day: date, in_us: bool) -> ModelPrices | None:
    at = datetime.combine(day, time(12), UTC)
    try:
        known = calc_price(Usage(input_tokens=1), model, provider_id="anthropic", genai_request_timestamp=at)
    except LookupError:
        return None
    tiered = [price for price in vars(known.model_price).values() if isinstance(price, TieredPrices)]
    starts = {0, *(tier.start + 1 for price in tiered for tier in price.tiers)}
    thresholds = tuple(sorted(starts, reverse=True))
    standard = tuple(_rates(model, at, False, threshold, in_us) for threshold in thresholds)
    in_batch = tuple(_rates(model, at, True, threshold, in_us) for threshold in thresholds)
    return ModelPrices(
        thresholds=thresholds,
        in_batch=tuple(map(_discounted, in_batch, standard)),
        standard=standard,
        unknown=tuple(kind for kind, rate in enumerate(standard[-1]) if not rate),
    )


def _rates(model: str, at: datetime, in_batch: bool, total_input: int, in_us: bool) -> Counts:
    anchor = (total_input, 0, 0, 0, 0, 0)
    floor = library_price(model, at, in_batch, anchor)
    probes = [tuple(n + (kind == probed) for n, kind in zip(anchor, KINDS, strict=True)) for probed in KINDS]
    rates = [
        int((library_price(model, at, in_batch, cast(Counts, probe)) - floor) * DOLLAR) for probe in probes
    ]
    if in_us:
        rates[:SEARCHES] = [rate * US_PERCENT // 100 for rate in rates[:SEARCHES]]
    return cast(Counts, tuple(rates))


def _discounted(in_batch: Counts, standard: Counts) -> Counts:
    # A kind of token that costs the same in a batch as outside has no batch rate in the library.
    tokens = (
        batch // BATCH_DISCOUNT if batch == list_price else batch
        for batch, list_price in zip(in_batch[:SEARCHES], standard[:SEARCHES], strict=True)
    )
    return cast(Counts, (*tokens, in_batch[SEARCHES]))


def _sum(n: Counts, rate: Counts) -> Picodollars:
    return Picodollars(
        n[0] * rate[0] + n[1] * rate[1] + n[2] * rate[2] + n[3] * rate[3] + n[4] * rate[4] + n[5] * rate[5]
    )


def library_price(model: str, at: datetime, in_batch: bool, counts: Counts) -> Decimal:
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
