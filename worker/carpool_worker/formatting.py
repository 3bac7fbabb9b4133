"""How money, counts, sizes and time are printed, everywhere an operator reads them. Pure.

One rule for each, so that the same amount reads the same in a table, in Flower, in a plot and in an error message.
What programs read (JSON, CSV) is exact instead: `exact` and `time_of`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal

from carpool_worker.units import DAY, DOLLAR, HOUR, SECOND

CENT = Decimal("0.01")
FINEST = Decimal("0.0001")
"""Dollars: the steps in which money is printed from a dollar on, and below."""

NOISE = Decimal("1e-10")
"""Dollars: what sums of floating-point numbers get wrong is smaller, a token costs more."""

LETTERS = ("k", "M", "B")
"""What short counts end in: each is 1,000 of the one before."""

MOST_NAMES = 5

BYTE_UNITS = ("kB", "MB", "GB", "TB")
"""Each is 1,000 of the one before, as Anthropic counts its 256 MB."""

MINUTE = 60 * SECOND
AGE_UNITS = ((2 * DAY, DAY, "d"), (2 * HOUR, HOUR, "h"), (2 * MINUTE, MINUTE, "min"), (0, SECOND, "s"))
"""From how many milliseconds on an age is given in a unit, how many that unit has, and its name."""


def money(picodollars: int) -> str:
    """Return an amount as '$1,234.57', or below a dollar with four digits, '$0.4567', unless it is whole cents.

    Rounded away from zero, always, by the same rule for what is spent and for a limit: so an amount never reads as
    less than a limit that it exceeds, and what costs something never reads as nothing.
    """
    amount = Decimal(abs(picodollars)) / DOLLAR
    rounded = amount.quantize(FINEST, ROUND_UP)
    if rounded >= 1 or rounded == rounded.quantize(CENT, ROUND_UP):
        rounded = amount.quantize(CENT, ROUND_UP)
    return f"{'-' if picodollars < 0 else ''}${rounded:,}"


def dollars(amount: Decimal | float) -> str:
    """Return an amount in dollars as `money` does; the noise of floating-point sums is not rounded up."""
    exactly = amount if isinstance(amount, Decimal) else Decimal(amount)
    return money(int(exactly.quantize(NOISE, ROUND_HALF_EVEN) * DOLLAR))


def exact(picodollars: int) -> Decimal:
    """Return dollars to the last digit that isn't zero, for programs; 100 is no 1E+2 (but print it with `:f`)."""
    return Decimal(f"{Decimal(picodollars) / DOLLAR:f}")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: '1 batch', '5,000 batches'; the plural ends in s unless it is given."""
    return f"1 {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def short(number: int) -> str:
    """Return a count in four or five characters, rounded: 950, 12.3k, 4.5M; a thousand billions are '1,000B'."""
    return str(number) if number < 1_000 else "".join(_scaled(number, LETTERS, tenths_below=100))


def size(bytes_: int) -> str:
    """Return a size, rounded: '340 bytes', '1.2 kB', '12 MB'."""
    return (
        counted(bytes_, "byte") if bytes_ < 1_000 else " ".join(_scaled(bytes_, BYTE_UNITS, tenths_below=10))
    )


def contents(requests: int, bytes_: int) -> str:
    """Return what a batch holds: '5,000 requests, 12 MB'."""
    return f"{counted(requests, 'request')}, {size(bytes_)}"


def outcome(counts: Mapping[str, int], cost: Decimal | None, list_price: Decimal | None) -> str:
    """Return how a batch ended: '4,990 succeeded, 10 errored · $1.23, saved $1.23'; empty if nothing ended in it.

    `counts` are how many of its requests have which outcome; the money is in dollars, None if it is unknown.
    """
    ended = outcome_counts(counts)
    if not ended or cost is None or list_price is None:
        return ended
    return f"{ended} · {dollars(cost)}, saved {dollars(list_price - cost)}"


def outcome_counts(counts: Mapping[str, int]) -> str:
    """Return how many requests have which outcome: '4,990 succeeded, 10 errored'; zeros are left out."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def named(names: Iterable[str]) -> str | None:
    """Return the names, each once, with how often they come: '3 overloaded_error, 1 expired'; None if there are none.

    Of many only the commonest are named.
    """
    counts = Counter(names).most_common()
    some = [f"{count:,} {name}" for name, count in counts[:MOST_NAMES]]
    return ", ".join([*some, "…"] if len(counts) > MOST_NAMES else some) or None


def age(milliseconds: float) -> str:
    """Return a length of time in a few characters: 45 s, 12 min, 5 h, 3 d; begun units don't count.

    The next unit begins at two of it, so at most a third of the length is left out. A negative one, of clocks that
    differ, reads as '0 s'.
    """
    length = max(0, int(milliseconds))
    _, unit, name = next(row for row in AGE_UNITS if length >= row[0])
    return f"{length // unit:,} {name}"


def ago(milliseconds: float) -> str:
    """Return how long ago something was, within a sentence: 'just now', '45 s ago', '12 min ago'."""
    return "just now" if milliseconds < SECOND else f"{age(milliseconds)} ago"


def clock(at: int, now: int) -> str:
    """Return a time, in milliseconds since the epoch, within a sentence: '12:03:05 UTC'; on another day than `now`
    with its date, '2026-11-24 12:03:05 UTC'.
    """
    moment, today = _moment(at), _moment(now)
    return f"{moment:%H:%M:%S UTC}" if moment.date() == today.date() else f"{moment:%Y-%m-%d %H:%M:%S UTC}"


def time_of(at: int) -> str:
    """Return a time, in milliseconds since the epoch, for programs and lists: RFC 3339, '2026-11-24T12:03:05Z'."""
    return f"{_moment(at):%Y-%m-%dT%H:%M:%SZ}"


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1_000, UTC)


def _scaled(number: float, units: Sequence[str], tenths_below: int) -> tuple[str, str]:
    # In the first unit in which it takes three digits once it is rounded, so that 999,950 is 1.0M and never 1000k.
    number, unit, *larger = number / 1_000, *units
    if larger and round(number) >= 1_000:
        return _scaled(number, larger, tenths_below)
    return f"{number:.1f}" if round(number, 1) < tenths_below else f"{number:,.0f}", unit
