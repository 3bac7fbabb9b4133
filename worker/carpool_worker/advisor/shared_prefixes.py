"""Advice on shared tools and system prompts that are long enough for the cache but not marked for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import date

from carpool_worker.advisor.advice import Advice, SpendRate, subject
from carpool_worker.advisor.sampling import Groups, Sample
from carpool_worker.money.prices import model_prices
from carpool_worker.prompt_cache.prefixes import shortest
from carpool_worker.prompt_cache.savings import WARM_HIT_RATE, breaks_even_at, cache_rates, saving
from carpool_worker.store.reports.samples import Opened
from carpool_worker.store.usage import UsageRow

LEAST_SAMPLES = 10
"""The fewest requests with the same prefix on which advice is based."""

HOW = (
    "cache_shared_prompts = true: Carpool marks it for an hour where that pays. Or, beyond batches, the client puts "
    '"cache_control" on the last block of system (or of tools). '
    "Estimated at {hits:.0%} hits; it pays from {even:.0%}."
)


def advise(
    used: Sequence[UsageRow], samples: Groups, batches: Sequence[Opened], rate: SpendRate, today: date
) -> Iterator[Advice]:
    """Yield advice for each prefix of a client and a model that the cache would have made cheaper."""
    requests = {(row.client, row.model): row.requests for row in used}
    of_model = Counter(batch.model for batch in batches)
    for (client, model), group in samples.items():
        for sharing in _by_prefix(group):
            count = requests.get((client, model), 0) * len(sharing) // len(group)
            yield from _advice(sharing, group, count, of_model[model], rate, today)


def _by_prefix(group: Sequence[Sample]) -> list[list[Sample]]:
    prefixes: dict[str, list[Sample]] = defaultdict(list)
    for sample in group:
        if sample.prefix and not sample.is_marked:
            prefixes[sample.prefix].append(sample)
    return [sharing for sharing in prefixes.values() if len(sharing) >= LEAST_SAMPLES]


def _advice(
    sharing: Sequence[Sample], group: Sequence[Sample], count: int, batches: int, rate: SpendRate, today: date
) -> Iterator[Advice]:
    client, model = sharing[0].client, sharing[0].model
    tokens = prefix_tokens(sharing, group)
    rates = cache_rates(model_prices(model, today))
    if rates is None or tokens < shortest(model):
        return
    saved = saving(tokens, count, min(batches, count), WARM_HIT_RATE, rates)
    if saved > 0:
        facts = {"prefix_tokens": tokens, "requests": count, "batches": batches, "hit_rate": WARM_HIT_RATE}
        yield Advice(
            kind="cache",
            subject=subject(client, model),
            what=f"{len(sharing) / len(group):.0%} of the requests begin with the same tools and system prompt, about "
            f"{tokens:,} tokens, and nothing marks them for the cache.",
            how=HOW.format(hits=WARM_HIT_RATE, even=breaks_even_at(rates)),
            saves_per_month=rate.dollars(saved),
            facts={"client": client, "model": model} | facts,
        )


def prefix_tokens(sharing: Sequence[Sample], group: Sequence[Sample]) -> int:
    """Estimate a prefix's tokens from its bytes, by what the API counted for these requests' bytes."""
    per_byte = sum(sample.prompt_tokens for sample in group) / sum(sample.params_bytes for sample in group)
    return min(int(sharing[0].prefix_bytes * per_byte), *(sample.prompt_tokens for sample in sharing))
