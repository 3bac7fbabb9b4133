"""Estimates what a request may cost before it is sent; that much of its client's budget is reserved. Pure.

It errs on the high side: all of max_tokens is counted, though most answers are shorter, and where a client marks parts
for the prompt cache, all of its prompt is counted as written there. What the params do not show is left out: web
searches, and reads from the cache, which are cheaper.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import msgspec

from carpool_worker.money.costs import WITHIN_US, CacheCreation, Tokens, price_of
from carpool_worker.units import Picodollars

BYTES_A_TOKEN = 3
"""Of the params' JSON. English has about 4 (Anthropic's glossary, "Tokens"); other scripts, and JSON itself, fewer."""

FILE_BYTES_A_TOKEN = 50
"""Of base64. An image has 1,600 tokens at most and a page of a PDF 1,500 to 3,000 (Anthropic's pages on vision and PDF
support), and either takes 100 kB or more; for a PDF of nothing but text the estimate is too low."""

FILE = re.compile(rb'"data"\s*:\s*"[A-Za-z0-9+/=]{1000,}"')
"""An image or a document in base64."""

MOST_TOKENS = 100_000_000
"""More than any answer has: an absurd max_tokens, which Anthropic refuses, must not overflow the columns."""


CACHE_MARK = re.compile(rb'"cache_control"\s*:\s*\{')
LONGER_CACHE_MARK = re.compile(rb'"ttl"\s*:\s*"1h"')
"""A client's own marks. Within a text the quotes are escaped, so that it is not taken for one."""


class _Params(msgspec.Struct):
    max_tokens: Any = 0
    inference_geo: Any = None


_decode = msgspec.json.Decoder(_Params).decode


def estimate(model: str, params: bytes, day: date) -> Picodollars | None:
    """Return the cost at the model's batch price of that day (UTC), or None if it has no known price."""
    price = price_of(tokens_of(params), model, day)
    return None if price is None else price.cost


def full_estimate(model: str, params: bytes, day: date) -> Picodollars | None:
    """Return the cost outside a batch, or None if the model has no known price on that day (UTC)."""
    price = price_of(tokens_of(params), model, day)
    return None if price is None else price.list_price


def tokens_of(params: bytes) -> Tokens:
    """Return about how many tokens the params, a JSON object, take, and how many they allow for the answer."""
    read = _read(params)
    in_files = sum(len(match[0]) for match in FILE.finditer(params))
    counted = (len(params) - in_files) // BYTES_A_TOKEN + in_files // FILE_BYTES_A_TOKEN
    within = WITHIN_US if read.inference_geo == WITHIN_US else None
    longer = bool(LONGER_CACHE_MARK.search(params))
    if longer or CACHE_MARK.search(params):
        written = CacheCreation(
            **{"ephemeral_1h_input_tokens" if longer else "ephemeral_5m_input_tokens": counted}
        )
        return Tokens(0, _most(read.max_tokens), cache_creation=written, inference_geo=within)
    return Tokens(counted, _most(read.max_tokens), inference_geo=within)


def _read(params: bytes) -> _Params:
    try:
        return _decode(params)
    except (msgspec.MsgspecError, RecursionError):
        return _Params()


def _most(allowed: Any) -> int:
    # Anthropic refuses anything that is not such a number, at no cost; it must not keep the other requests waiting.
    return int(min(max(0, allowed), MOST_TOKENS)) if isinstance(allowed, int | float) else 0
