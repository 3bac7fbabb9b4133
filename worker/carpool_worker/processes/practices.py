"""The faults that can be practised by name, in words. simulator/kinds.py has what they do, and takes long to import."""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "wrong-key": "every call is answered 401, as with a wrong API key, until you disarm it",
    "no-credit": "batches are refused with 402, as without credit, until you disarm it",
    "spend-cap": "batches are refused as over the spend limit, until you disarm it",
    "rate-limited": "the next 3 batches are refused with 429 and a Retry-After of 5 s",
    "overloaded": "the next 3 batches are refused with 529",
    "too-large": "the next batch is refused with 413, and is split",
    "down": "every connection is cut, until you disarm it",
    "lost-create": "the next batch is made, and the answer that says so is lost",
    "cut-results": "the next results break off in the middle of a line",
    "slow-results": "results take 20 s to come",
    "errored": "a fifth of the requests fail at their first try, and succeed later",
    "invalid": "a fifth of the requests are invalid to Anthropic, for good",
    "expired": "a fifth of the requests expire at their first try",
    "refusal": "the model refuses a fifth of the requests",
}
