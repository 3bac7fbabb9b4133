"""Advice on a `max_tokens` far above the length of the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from statistics import median_high

from carpool_worker.advisor.advice import Advice, subject
from carpool_worker.advisor.sampling import Groups, Sample
from carpool_worker.formatting import money
from carpool_worker.money.prices import KINDS, model_prices

LEAST_SAMPLES = 50
"""The fewest answers on which advice is based."""

FAR_ABOVE = 4
"""`max_tokens` is too high if it is this many times the suggestion, or more."""

HEADROOM = 1.5
"""The suggestion is this many times the 99th percentile, and no less than the longest answer."""

WHAT = "max_tokens is {allowed:,}; half of {count} answers have at most {p50:,} tokens, 99 % have at most {p99:,}."
HOW = (
    "Send max_tokens: {suggestion}. A high limit costs nothing by itself, as only what is written is billed; a lower "
    "one ends a runaway answer, which could cost {most} and then costs {bounded}."
)


def advise(samples: Groups, today: date) -> Iterator[Advice]:
    """Yield advice for each client and model whose answers are far shorter than allowed."""
    for (client, model), group in samples.items():
        if len(group) >= LEAST_SAMPLES and (advice := _advice(client, model, group, today)):
            yield advice


def _advice(client: str, model: str, group: Sequence[Sample], today: date) -> Advice | None:
    written = sorted(sample.output_tokens for sample in group)
    allowed = median_high(sample.max_tokens for sample in group)
    suggestion = suggested(written)
    if allowed < FAR_ABOVE * suggestion:
        return None
    p50, p99 = percentile(written, 50), percentile(written, 99)
    rate = _price_of_a_token(model, today)
    facts = {"max_tokens": allowed, "p50": p50, "p99": p99, "longest": written[-1], "suggestion": suggestion}
    return Advice(
        kind="max_tokens",
        subject=subject(client, model),
        what=WHAT.format(allowed=allowed, count=len(group), p50=p50, p99=p99),
        how=HOW.format(suggestion=suggestion, most=money(allowed * rate), bounded=money(suggestion * rate)),
        facts={"client": client, "model": model, "samples": len(group)} | facts,
    )


def suggested(written: Sequence[int]) -> int:
    """Return a `max_tokens` with headroom above these lengths of answers (ascending), rounded up to two digits."""
    enough = max(int(percentile(written, 99) * HEADROOM), written[-1], 1)
    unit: int = 10 ** max(len(str(enough)) - 2, 0)
    return -(-enough // unit) * unit


def percentile(ascending: Sequence[int], percent: int) -> int:
    """Return the smallest value that this percentage of the values does not exceed."""
    return ascending[max(-(-len(ascending) * percent // 100) - 1, 0)]


def _price_of_a_token(model: str, today: date) -> int:
    prices = model_prices(model, today)
    return int(prices.in_batch[-1][KINDS.index("output_tokens")]) if prices else 0
