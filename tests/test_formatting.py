"""Money, counts, sizes and times read the same wherever an operator looks."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from carpool_worker.formatting import (
    age,
    clock,
    contents,
    counted,
    dollars,
    exact,
    money,
    outcome,
    short,
    size,
    time_of,
)
from carpool_worker.units import DAY, DOLLAR, HOUR, SECOND

CENT = DOLLAR // 100
NOON = 1_795_435_200_000  # 2026-11-23
MINUTE = 60 * SECOND


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [
        (0, "$0.00"),
        (1, "$0.0001"),
        (CENT // 100, "$0.0001"),
        (CENT // 100 + 1, "$0.0002"),
        (CENT, "$0.01"),
        (CENT // 10, "$0.0010"),
        (456_700_000_000, "$0.4567"),
        (460_000_000_000, "$0.46"),
        (999_900_000_000, "$0.9999"),
        (999_900_000_001, "$1.00"),
        (DOLLAR, "$1.00"),
        (DOLLAR + 1, "$1.01"),
        (4_990_000_000_000, "$4.99"),
        (1_234_567 * DOLLAR, "$1,234,567.00"),
        (-1, "-$0.0001"),
        (-DOLLAR - 1, "-$1.01"),
    ],
)
def test_money_has_cents_and_four_digits_below_a_dollar_rounded_up(picodollars: int, text: str) -> None:
    assert money(picodollars) == text


def test_an_amount_never_reads_as_less_than_a_smaller_one() -> None:
    chosen = random.Random(7)
    amounts = sorted(int(10 ** chosen.uniform(0, 15)) for _ in range(5_000))

    read = [Decimal(money(amount)[1:].replace(",", "")) for amount in amounts]

    assert read == sorted(read)
    assert all(shown >= exact(amount) for shown, amount in zip(read, amounts, strict=True))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Decimal("0.1"), "$0.10"),
        (Decimal("1.230000000001"), "$1.23"),
        (Decimal("1.230000005"), "$1.24"),
        (0.1 + 0.2, "$0.30"),
        (-0.5, "-$0.50"),
        (12_345, "$12,345.00"),
    ],
)
def test_dollars_read_as_picodollars_do_without_the_noise_of_floating_point(
    amount: Decimal | float, text: str
) -> None:
    assert dollars(amount) == text


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [(0, "0"), (1, "0.000000000001"), (CENT, "0.01"), (100 * DOLLAR, "100"), (-CENT, "-0.01")],
)
def test_programs_get_dollars_to_the_last_digit(picodollars: int, text: str) -> None:
    assert f"{exact(picodollars):f}" == text


def test_a_count_comes_with_its_noun() -> None:
    assert counted(0, "request") == "0 requests"
    assert counted(1, "request") == "1 request"
    assert counted(5_000, "request") == "5,000 requests"
    assert (counted(1, "batch", "batches"), counted(2, "batch", "batches")) == ("1 batch", "2 batches")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (12_345, "12.3k"),
        (99_949, "99.9k"),
        (99_950, "100k"),
        (999_499, "999k"),
        (999_950, "1.0M"),
        (4_500_000, "4.5M"),
        (10**9, "1.0B"),
        (1_234 * 10**9, "1,234B"),
    ],
)
def test_a_short_count_is_rounded_into_the_next_unit(number: int, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (9_951, "10 kB"),
        (12_345, "12 kB"),
        (999_500, "1.0 MB"),
        (256_000_000, "256 MB"),
        (999_999_999, "1.0 GB"),
        (5_000 * 10**12, "5,000 TB"),
    ],
)
def test_a_size_is_decimal_as_anthropics_limits_are(bytes_: int, text: str) -> None:
    assert size(bytes_) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-5_000, "0 s"),
        (0, "0 s"),
        (999.9, "0 s"),
        (2 * MINUTE - 1, "119 s"),
        (2 * MINUTE, "2 min"),
        (2 * HOUR - 1, "119 min"),
        (2 * HOUR, "2 h"),
        (2 * DAY - 1, "47 h"),
        (2 * DAY, "2 d"),
        (12_000 * DAY, "12,000 d"),
    ],
)
def test_an_age_is_told_in_whole_units_and_never_below_zero(milliseconds: float, text: str) -> None:
    assert age(milliseconds) == text


def test_a_time_within_a_sentence_has_its_date_where_that_is_not_todays() -> None:
    assert clock(NOON + 5_999, NOON) == "12:00:05 UTC"
    assert clock(NOON + 12 * HOUR - 1, NOON) == "23:59:59 UTC"
    assert clock(NOON + 12 * HOUR, NOON) == "2026-11-24 00:00:00 UTC"
    assert clock(NOON - DAY, NOON) == "2026-11-22 12:00:00 UTC"
    assert clock(0, NOON) == "1970-01-01 00:00:00 UTC"


def test_a_time_in_a_list_is_rfc_3339() -> None:
    assert time_of(NOON + 185_000) == "2026-11-23T12:03:05Z"
    assert time_of(0) == "1970-01-01T00:00:00Z"


def test_the_contents_of_a_batch_are_its_requests_and_bytes() -> None:
    assert contents(5_000, 12_000_000) == "5,000 requests, 12 MB"
    assert contents(1, 900) == "1 request, 900 bytes"


def test_how_a_batch_ended_is_its_outcomes_and_its_money() -> None:
    ended = {"succeeded": 4_990, "errored": 10, "canceled": 0}

    assert (
        outcome(ended, Decimal("1.23"), Decimal("2.46")) == "4,990 succeeded, 10 errored · $1.23, saved $1.23"
    )
    assert outcome(ended, None, Decimal("2.46")) == "4,990 succeeded, 10 errored"
    assert outcome({"succeeded": 0}, Decimal(0), Decimal(0)) == ""
    assert outcome({"canceled": 2, "expired": 1}, None, None) == "2 canceled, 1 expired"


def test_the_cents_of_a_cheap_batch_are_not_rounded_away() -> None:
    one = {"succeeded": 1}

    assert outcome(one, Decimal("0.0012"), Decimal("0.0024")) == "1 succeeded · $0.0012, saved $0.0012"
    assert outcome(one, Decimal("0.3764"), Decimal("0.7528")) == "1 succeeded · $0.3764, saved $0.3764"
