"""Batches that clients make at the gateway: their ids, and what the API calls their status. Pure."""

from __future__ import annotations

from typing import Literal

from carpool_worker.units import DAY

PREFIX = "msgbatch_01"
"""How the ids of the API's own batches begin, too: clients may check it."""

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DIGITS = 22
"""Of base 62, which 128 bits take. Digits ascend in ASCII, so ids sort by time in either form."""

LIFETIME = DAY
"""After which the requests of a batch that have not ended expire."""

ProcessingStatus = Literal["in_progress", "canceling", "ended"]


def shown_id(batch_id: str) -> str:
    """Return the id by which clients know a batch; `batch_id` has 32 hex digits."""
    number, digits = int(batch_id, 16), ""
    for _ in range(DIGITS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return PREFIX + digits


def stored_id(shown: str) -> str | None:
    """Return the id, 32 hex digits, of what a client calls a batch; None: it is no id that `shown_id` returns."""
    digits = shown.removeprefix(PREFIX)
    if not shown.startswith(PREFIX) or len(digits) != DIGITS or not set(digits) <= set(ALPHABET):
        return None
    number = 0
    for digit in digits:
        number = number * len(ALPHABET) + ALPHABET.index(digit)
    return f"{number:032x}" if number < 1 << 128 else None


def status(*, is_canceling: bool, has_ended: bool) -> ProcessingStatus:
    """Return the API's `processing_status`."""
    if has_ended:
        return "ended"
    return "canceling" if is_canceling else "in_progress"
