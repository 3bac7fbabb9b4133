"""Decides by the prices whether to mark a prefix for the cache, and whether to warm the cache first. Pure.

A write for an hour costs twice an uncached token, and a read about a tenth. Batches hit the cache on a best-effort
basis, and every miss writes again: so marking pays only if more than about 53 % of the requests hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carpool_worker.money.prices import ModelPrices
from carpool_worker.prompt_cache.prefixes import shortest
from carpool_worker.units import DOLLAR

WARM_HIT_RATE = 0.9
"""For requests whose prefix was written before they began. Anthropic names 30 to 98 % for batches; its advice for the
upper end is a time to live of an hour, and a batch of one request that goes ahead."""

COLD_HIT_RATE = 0.6
"""For requests that begin together with the one that writes: a little below the middle of that range."""

BYTES_PER_TOKEN = 5
"""More than any prose has, so the length of a prefix is never overestimated."""

LEAST_WORTH = DOLLAR // 2
"""The least that a warm-up must save for a batch to wait for it: half a dollar."""

LEAST_BILLED = 100_000
"""With this many cached tokens or more, a lane's own bills are a better guide than the assumptions above."""


@dataclass(frozen=True, slots=True)
class HitRates:
    """The share of requests that find their prefix in the cache: `warm` if it was written before, else `cold`."""

    cold: float = COLD_HIT_RATE
    warm: float = WARM_HIT_RATE


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A prefix that several requests of a batch share; `sample` is the id of the first of them."""

    prefix: str
    requests: int
    sample: str
    prefix_bytes: int
    is_cached: bool = False  # an earlier batch of the lane has just used it

    @property
    def tokens(self) -> int:
        """A cautious estimate of its length."""
        return self.prefix_bytes // BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True)
class CachePlan:
    """Which prefixes are marked, and whether one request of each goes ahead to warm the cache."""

    marked: tuple[SharedPrefix, ...] = ()
    warms_up: bool = False


def decide(
    shared: Sequence[SharedPrefix], model: str, prices: ModelPrices | None, hits: HitRates, can_wait: bool
) -> CachePlan:
    """Decide what pays at this model's prices: nothing if one of them is unknown."""
    rates = cache_rates(prices)
    if rates is None:
        return CachePlan()
    long_enough = [one for one in shared if one.tokens >= shortest(model)]
    first = {one: 0 if one.is_cached else 1 for one in long_enough}
    warm = {one: saving(one.tokens, one.requests, first[one], hits.warm, rates) for one in long_enough}
    cold = {
        one: warm[one] if one.is_cached else saving(one.tokens, one.requests, 1, hits.cold, rates)
        for one in long_enough
    }
    if can_wait and _gain(warm) - _gain(cold) >= LEAST_WORTH:
        return CachePlan(_paying(warm), warms_up=True)
    return CachePlan(_paying(cold))


@dataclass(frozen=True, slots=True)
class CacheRates:
    """What a token of a prompt costs in a batch, in picodollars."""

    plain: int
    write: int  # for an hour
    read: int


def cache_rates(prices: ModelPrices | None) -> CacheRates | None:
    """Return the rates for short prompts, or None if the model has no known price for the cache."""
    if prices is None:
        return None
    plain, _, read, _, write, _ = prices.in_batch[-1]
    return CacheRates(plain, write, read) if plain and write and read else None


def saving(tokens: int, requests: int, first: int, hit_rate: float, rates: CacheRates) -> float:
    """Return the picodollars that marking a prefix of so many tokens saves; negative if it costs more.

    The `first` requests write it; of the others, a share of `hit_rate` read it and the rest write it again.
    """
    later = requests - first
    cached = first * rates.write + later * (hit_rate * rates.read + (1 - hit_rate) * rates.write)
    return tokens * (requests * rates.plain - cached)


def breaks_even_at(rates: CacheRates) -> float:
    """Return the share of requests that must find the prefix in the cache for marking to pay."""
    return (rates.write - rates.plain) / (rates.write - rates.read)


def hits_of(cold: tuple[int, int], warm: tuple[int, int]) -> HitRates:
    """Return the hit rates that billed tokens (read, written) show, or the assumed ones if those are too few."""
    return HitRates(_rate(*cold, COLD_HIT_RATE), _rate(*warm, WARM_HIT_RATE))


def _rate(read: int, written: int, assumed: float) -> float:
    return read / (read + written) if read + written >= LEAST_BILLED else assumed


def _gain(savings: dict[SharedPrefix, float]) -> float:
    return sum(saved for saved in savings.values() if saved > 0)


def _paying(savings: dict[SharedPrefix, float]) -> tuple[SharedPrefix, ...]:
    """Return the prefixes that save something, those that save most first."""
    ranked = sorted(savings.items(), key=lambda item: -item[1])
    return tuple(one for one, saved in ranked if saved > 0)
