"""What the prompt cache saves or costs, by the prices: whether to mark a prefix, and whether to warm it first. Pure.

A write for an hour costs twice an uncached token and a read about a tenth. Batches hit the cache as best they can, and
every miss writes anew: so marking pays only from about 53 % of hits on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carpool_worker.money.prices import Tariff
from carpool_worker.prompt_cache.prefixes import shortest
from carpool_worker.units import DOLLAR

WARM_HIT_RATE = 0.9
"""Of requests whose prefix was written before they began. Anthropic names 30 to 98 % for batches; its advice for the
upper end is a time to live of an hour and a batch of one request that goes ahead."""

COLD_HIT_RATE = 0.6
"""Of requests that begin side by side with the one that writes: a little below the middle of these."""

BYTES_PER_TOKEN = 5
"""More than any prose has, so a prefix is never taken for longer than it is."""

LEAST_WORTH = DOLLAR // 2
"""Picodollars that a warm-up must save for a batch to wait for it: half a dollar."""

LEAST_BILLED = 100_000
"""Cached tokens from which on a lane's own bill says more than the assumptions above."""


@dataclass(frozen=True, slots=True)
class Hits:
    """The part of the requests that find their prefix in the cache: `warm` where it was written before, else `cold`."""

    cold: float = COLD_HIT_RATE
    warm: float = WARM_HIT_RATE


@dataclass(frozen=True, slots=True)
class Shared:
    """A prefix that so many requests of a batch share; `sample` is the first of them.

    It is `cached` where an earlier batch of the lane has just used it.
    """

    prefix: str
    requests: int
    sample: str
    prefix_bytes: int
    is_cached: bool = False

    @property
    def tokens(self) -> int:
        """A cautious estimate of its length."""
        return self.prefix_bytes // BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True)
class Plan:
    """Which prefixes are marked, and whether one request of each goes ahead."""

    marked: tuple[Shared, ...] = ()
    warms_up: bool = False


def decide(shared: Sequence[Shared], model: str, tariff: Tariff | None, hits: Hits, can_wait: bool) -> Plan:
    """Decide what pays at this model's prices: nothing where one of them isn't known."""
    rates = cache_rates(tariff)
    if rates is None:
        return Plan()
    long_enough = [one for one in shared if one.tokens >= shortest(model)]
    first = {one: 0 if one.is_cached else 1 for one in long_enough}
    warm = {one: saving(one.tokens, one.requests, first[one], hits.warm, rates) for one in long_enough}
    cold = {
        one: warm[one] if one.is_cached else saving(one.tokens, one.requests, 1, hits.cold, rates)
        for one in long_enough
    }
    if can_wait and _gain(warm) - _gain(cold) >= LEAST_WORTH:
        return Plan(_paying(warm), warms_up=True)
    return Plan(_paying(cold))


@dataclass(frozen=True, slots=True)
class CacheRates:
    """Picodollars a token of a prompt costs in a batch."""

    plain: int
    write: int  # for an hour
    read: int


def cache_rates(tariff: Tariff | None) -> CacheRates | None:
    """Return a tariff's prices for short prompts; None where the cache has none."""
    if tariff is None:
        return None
    plain, _, read, _, write, _ = tariff.in_batch[-1]
    return CacheRates(plain, write, read) if plain and write and read else None


def saving(tokens: int, requests: int, first: int, hit_rate: float, rates: CacheRates) -> float:
    """Return the picodollars that marking a prefix of so many tokens saves; below zero it costs them.

    The `first` requests write it; of the others a part of `hit_rate` reads it, and the rest writes it again.
    """
    later = requests - first
    cached = first * rates.write + later * (hit_rate * rates.read + (1 - hit_rate) * rates.write)
    return tokens * (requests * rates.plain - cached)


def breaks_even_at(rates: CacheRates) -> float:
    """Return the part of the requests that must find the prefix in the cache for it to pay."""
    return (rates.write - rates.plain) / (rates.write - rates.read)


def hits_of(cold: tuple[int, int], warm: tuple[int, int]) -> Hits:
    """Return the hit rates that tokens (read, written) which were billed show; the assumed ones where they are few."""
    return Hits(_rate(*cold, COLD_HIT_RATE), _rate(*warm, WARM_HIT_RATE))


def _rate(read: int, written: int, assumed: float) -> float:
    return read / (read + written) if read + written >= LEAST_BILLED else assumed


def _gain(savings: dict[Shared, float]) -> float:
    return sum(saved for saved in savings.values() if saved > 0)


def _paying(savings: dict[Shared, float]) -> tuple[Shared, ...]:
    """Return the prefixes that save something, the one that saves most first."""
    ranked = sorted(savings.items(), key=lambda item: -item[1])
    return tuple(one for one, saved in ranked if saved > 0)
