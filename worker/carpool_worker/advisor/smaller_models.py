"""Advice on models where a smaller one would cost a fraction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from carpool_worker.advisor.advice import Advice, SpendRate, subject
from carpool_worker.money.prices import Counts, model_prices, newest_model
from carpool_worker.store.usage import UsageRow

FAMILIES = (("fable", "mythos"), ("opus",), ("sonnet",), ("haiku",))
"""From the largest to the smallest (Anthropic's model overview); of each the newest of the first name is advised."""

FRACTION = 0.5
"""A smaller model is advised if the same tokens would cost this fraction or less."""

HOW = (
    "Send a hundred of these requests to {other} and compare the answers; if they are as good, change the model. "
    "Token counts differ a little from model to model."
)


def advise(used: Iterable[UsageRow], rate: SpendRate, today: date) -> Iterator[Advice]:
    """Yield advice for each client and model (summed rows of the usage ledger) with a much cheaper alternative."""
    for row in used:
        found = cheaper(row, today)
        if found and row.cost:
            other, part = found
            yield Advice(
                kind="smaller_model",
                subject=subject(row.client, row.model),
                what=f"{other} would take the same tokens for {part:.0%} of the price.",
                how=HOW.format(other=other),
                saves_per_month=rate.dollars(row.cost * (1 - part)),
                facts={"client": row.client, "model": row.model, "other": other, "part": round(part, 4)},
            )


def cheaper(row: UsageRow, today: date) -> tuple[str, float] | None:
    """Return the largest model, of the same size or smaller, that costs FRACTION or less, and the fraction."""
    own = mean_price(row, row.model, today)
    for other in candidates(row.model):
        price = mean_price(row, other, today)
        if own and price and price <= FRACTION * own:
            return other, price / own
    return None


def candidates(model: str) -> Sequence[str]:
    """Return the newest models as large as this one or smaller, the largest first."""
    for rank, names in enumerate(FAMILIES):
        if any(name in model for name in names):
            newest = (newest_model(family) for family, *_ in FAMILIES[rank:])
            return [one for one in newest if one]
    return ()


def mean_price(row: UsageRow, model: str, today: date) -> int | None:
    """Return what the average request would cost today, in picodollars; cache writes as for five minutes."""
    prices = model_prices(model, today)
    kinds = (row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens, 0, 0)
    uncached, output, read, write, *_ = (count // row.requests for count in kinds)
    counts: Counts = (uncached, output, read, write, 0, 0)
    price = prices.price(counts) if prices else None
    return price.cost if price else None
