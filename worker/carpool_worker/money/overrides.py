"""Prices that take the place of the library's: discounts, and models that it does not know. Pure.

What is in force is of the process, as the library's own prices are: the settings set it when they are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carpool_worker.units import DOLLAR

MILLION = 1_000_000
THOUSAND = 1_000

CACHE_READ, CACHE_WRITE, CACHE_WRITE_1H = Decimal("0.1"), Decimal("1.25"), Decimal(2)
"""Of the price of an uncached token, where none is given (Anthropic's price list, "Prompt caching")."""

PATTERN = re.compile(r"[A-Za-z0-9._:@/*-]{1,128}")

Rate = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Percent = Annotated[Decimal, Field(ge=0, le=100, allow_inf_nan=False)]


class PriceOverride(BaseModel):
    """What a model costs: a discount on the known price, or prices of its own. Both are list prices.

    Tokens are in dollars per million, web searches in dollars per thousand, discounts in percent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    discount: Percent | None = None
    input: Rate | None = None
    output: Rate | None = None
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    web_search: Rate | None = None  # None: requests with web searches have no known price
    batch_discount: Percent = Decimal(50)

    @model_validator(mode="after")
    def _agree(self) -> PriceOverride:
        given = {"input", "output"} & self._given
        if self.discount is not None and self._given - {"discount"}:
            raise ValueError("discount is on the known price: it excludes all others")
        if self.discount is None and len(given) < 2:
            raise ValueError("must say discount, or input and output")
        return self

    @property
    def _given(self) -> set[str]:
        return {name for name in self.model_fields_set if getattr(self, name) is not None}

    @property
    def rates(self) -> tuple[int, ...] | None:
        """Picodollars for one of each of prices.KINDS, outside a batch; None: it is a discount."""
        if self.input is None or self.output is None:
            return None
        tokens = (
            self.input,
            self.output,
            self.input * CACHE_READ if self.cache_read is None else self.cache_read,
            self.input * CACHE_WRITE if self.cache_write is None else self.cache_write,
            self.input * CACHE_WRITE_1H if self.cache_write_1h is None else self.cache_write_1h,
        )
        return (
            *(int(rate * DOLLAR / MILLION) for rate in tokens),
            int((self.web_search or 0) * DOLLAR / THOUSAND),
        )


Overrides = tuple[tuple[str, PriceOverride], ...]
"""By the pattern of models; the first that matches counts."""


class _InForce:
    overrides: Overrides = ()


def check_patterns(prices: Mapping[str, PriceOverride]) -> Mapping[str, PriceOverride]:
    """Accept overrides whose names are models, in which * stands for any characters; raises ValueError."""
    for pattern in prices:
        if not PATTERN.fullmatch(pattern):
            raise ValueError(f"{pattern!r}: must be a model's name, in which * stands for any characters")
    return prices


def put_in_force(prices: Mapping[str, PriceOverride]) -> None:
    """Let these count from now on, in this process, and no others."""
    _InForce.overrides = tuple(prices.items())


def override_of(model: str) -> PriceOverride | None:
    """Return what takes the place of a model's price, or None."""
    return _override_of(model, _InForce.overrides)


@lru_cache(maxsize=512)
def _override_of(model: str, overrides: Overrides) -> PriceOverride | None:
    for pattern, override in overrides:
        if re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), model, re.DOTALL):
            return override
    return None
