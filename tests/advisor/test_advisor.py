"""The advisor's decisions, against numbers calculated by hand from the price list."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from uuid_utils import uuid7

from carpool_worker.advisor import answer_lengths, sampling, shared_prefixes, small_batches, smaller_models
from carpool_worker.advisor.advice import Advice, SpendRate
from carpool_worker.advisor.sampling import Sample, measured
from carpool_worker.database import now
from carpool_worker.money.costs import Tokens, price_of
from carpool_worker.store.reports.samples import Answered, Opened
from carpool_worker.store.usage import UsageRow

TODAY = date(2026, 11, 22)
A_MONTH = SpendRate(30 * 86_400)
SAMPLE = Sample("a", "claude-sonnet-5-5", 10_000, 2_500, 100, 4_096, "prefix", 8_000, is_marked=False)


def used(model: str, requests: int, tokens: Tokens, client: str = "a") -> UsageRow:
    row = UsageRow("", client, model)
    for _ in range(requests):
        row.add(tokens, price_of(tokens, model, TODAY))
    return row


def opened(
    count: int, seconds_apart: float, requests: int = 5, model: str = "claude-sonnet-5-5"
) -> list[Opened]:
    return [Opened(f"{n:032x}", "lane", model, int(n * seconds_apart * 1000), requests) for n in range(count)]


# --- max_tokens ---


def lengths(written: list[int], max_tokens: int) -> list[Advice]:
    group = [replace(SAMPLE, output_tokens=length, max_tokens=max_tokens) for length in written]
    return list(answer_lengths.advise({("a", "claude-sonnet-5-5"): group}, TODAY))


def test_max_tokens_far_above_what_is_written_is_said_with_a_suggestion() -> None:
    [advice] = lengths([*range(1, 200), 210], 64_000)

    facts = {"max_tokens": 64_000, "p50": 100, "p99": 198, "longest": 210, "suggestion": 300}
    assert facts.items() <= advice.facts.items()
    assert advice.saves_per_month == 0
    assert "$0.32" in advice.how  # 64,000 tokens at half of $10 a million
    assert "$0.0015" in advice.how


@pytest.mark.parametrize(
    ("written", "max_tokens"),
    [
        pytest.param([100] * 200, 599, id="not far above"),
        pytest.param([100] * 49, 64_000, id="too few to say"),
        pytest.param([*[100] * 199, 30_000], 64_000, id="one answer was that long"),
    ],
)
def test_max_tokens_that_is_needed_or_not_known_enough_is_left_alone(
    written: list[int], max_tokens: int
) -> None:
    assert lengths(written, max_tokens) == []


# --- caching ---


def prefixes(group: list[Sample], requests: int, batches: int) -> list[Advice]:
    rows = [used("claude-sonnet-5-5", requests, Tokens(input_tokens=2_500, output_tokens=100))]
    samples = {("a", "claude-sonnet-5-5"): group}
    return list(shared_prefixes.advise(rows, samples, opened(batches, 60), A_MONTH, TODAY))


def test_a_shared_prefix_that_nobody_marked_is_worth_what_the_price_list_says() -> None:
    # Given 10,000 requests in 10 batches, half of which share 2,000 tokens (8,000 of 10,000 bytes)
    others = [replace(SAMPLE, prefix=None, prefix_bytes=0) for n in range(50)]

    [advice] = prefixes([SAMPLE] * 50 + others, 10_000, 10)

    # Then 5,000 × 2,000 tokens at half of $2 a million become: 10 writes at half of $4, of the other 4,990 nine tenths
    # reads at half of $0.10 and a tenth writes
    plain = Decimal(5_000 * 2_000) * 1
    cached = 2_000 * (10 * Decimal(2) + 4_990 * (Decimal("0.9") * Decimal("0.05") + Decimal("0.1") * 2))
    assert advice.saves_per_month == round((plain - cached) / 1_000_000, 2) == Decimal("7.51")
    assert (advice.facts["prefix_tokens"], advice.facts["requests"]) == (2_000, 5_000)
    assert "51%" in advice.how  # (2 - 1) / (2 - 0.05)


@pytest.mark.parametrize(
    ("change", "requests", "batches"),
    [
        pytest.param({"is_marked": True}, 10_000, 10, id="marked already"),
        pytest.param({"prefix_bytes": 4_000}, 10_000, 10, id="1,000 tokens, under the 1,024 of Sonnet"),
        pytest.param({}, 10_000, 9_000, id="hardly two in a batch"),
        pytest.param({"prefix": None}, 10_000, 10, id="no system prompt"),
    ],
)
def test_a_prefix_that_would_save_nothing_is_left_alone(
    change: dict[str, Any], requests: int, batches: int
) -> None:
    assert prefixes([replace(SAMPLE, **change)] * 100, requests, batches) == []


def test_a_prefix_is_never_taken_for_longer_than_the_shortest_prompt_that_has_it() -> None:
    # Given a prompt with an image, whose bytes make few tokens, and one without
    with_text = replace(SAMPLE, prompt_tokens=2_100)

    assert shared_prefixes.prefix_tokens([SAMPLE, with_text], [replace(SAMPLE, prompt_tokens=9_000)]) == 2_100


# --- smaller models ---


@pytest.mark.parametrize(
    ("model", "other", "part"),
    [
        ("claude-opus-4-5", "claude-sonnet-5-5", 0.4),  # $2 and $10 for $5 and $25
        ("claude-opus-5-5", "claude-sonnet-5-5", 0.5),
        ("claude-sonnet-5-5", "claude-haiku-5-5", 0.05),
        ("claude-haiku-4-5-20251001", "claude-haiku-5-5", 0.1),
        ("claude-fable-5", "claude-opus-5-5", 0.4),
    ],
)
def test_a_smaller_model_is_named_with_what_it_would_save(model: str, other: str, part: float) -> None:
    row = used(model, 1_000, Tokens(input_tokens=10_000, output_tokens=2_000))

    [advice] = smaller_models.advise([row], A_MONTH, TODAY)

    assert (advice.facts["other"], advice.facts["part"]) == (other, part)
    assert advice.saves_per_month == round(Decimal(row.cost) / 10**12 * (1 - Decimal(str(part))), 2)


@pytest.mark.parametrize("model", ["claude-haiku-5-5", "claude-unheard-of", "something-else"])
def test_no_smaller_model_is_invented(model: str) -> None:
    assert list(smaller_models.advise([used(model, 10, Tokens(10, 10))], A_MONTH, TODAY)) == []


def test_a_long_prompt_counts_as_such_at_the_smaller_model() -> None:
    # Given prompts beyond the 100,000 tokens from which Haiku 5.5 takes five times as much
    row = used("claude-sonnet-5-5", 10, Tokens(input_tokens=150_000, output_tokens=1_000))

    [advice] = smaller_models.advise([row], A_MONTH, TODAY)

    assert advice.facts["part"] == 0.25


# --- lanes ---


def test_batches_that_would_have_pooled_are_said_with_the_interval() -> None:
    # Given a batch every 70 seconds for a day
    [advice] = small_batches.advise(opened(1_234, 70), flush_interval=60)

    assert advice.facts["flush_interval"] == 300
    assert advice.facts["would_be"] == 247  # each takes those of 280 seconds more with it: 5 a batch
    assert "flush_interval = 300 (now 60)" in advice.how


@pytest.mark.parametrize(
    "batches",
    [
        pytest.param(opened(19, 70), id="too few to say"),
        pytest.param(opened(1_000, 70, requests=100), id="large enough"),
        pytest.param(opened(100, 86_400), id="a day apart"),
    ],
)
def test_lanes_that_would_not_gain_are_left_alone(batches: list[Opened]) -> None:
    assert list(small_batches.advise(batches, flush_interval=60)) == []


# --- spend rate and samples ---


def test_a_month_is_extrapolated_from_the_spend_rate_and_never_from_less_than_a_day() -> None:
    assert SpendRate(15 * 86_400).dollars(10**12) == 2
    assert SpendRate(3_600).dollars(10**12) == 30


def test_of_every_lane_some_batches_are_looked_into_and_of_many_lanes_no_fewer() -> None:
    lanes = [[batch._replace(lane=f"lane {n}") for batch in opened(500, 1)] for n in range(30)]

    chosen = sampling.picked([batch for lane in lanes for batch in lane], random.Random(1))

    assert len(chosen) == 30 * sampling.LEAST_OF_A_LANE
    assert len({batch.lane for batch in chosen}) == 30


def test_ids_are_found_by_their_time() -> None:
    before = now()
    request_id = uuid7().hex

    assert sampling.first_id(before) <= request_id < sampling.first_id(now() + 1)
    assert len(sampling.first_id(before)) == len(request_id)


def test_params_are_read_up_to_a_number_and_a_size() -> None:
    rows = [Answered(str(n), "a", "m", 1, n, 100, 1, 1, 0, 0) for n in range(1_000)]
    huge = Answered("huge", "b", "m", 2, 0, sampling.MOST_BYTES, 1, 1, 0, 0)

    wanted = sampling.within_limits([*rows, huge])

    assert len(wanted) == sampling.MOST_OF_A_GROUP
    assert huge not in wanted


def test_a_sample_has_sizes_and_no_content() -> None:
    row = Answered("id", "a", "m", 1, 0, 10, 5, 7, 2, 1)
    body = b'{"max_tokens": 9, "system": "SECRET", "tools": [{"name": "SECRET"}], "messages": []}'
    quoting = body.replace(b'"SECRET"', rb'"say \"cache_control\""')
    marked = body.replace(b"[]", b'[{"cache_control": {"type": "ephemeral"}}]')

    sample = measured(row, body)

    assert sample is not None
    assert (sample.prompt_tokens, sample.max_tokens, sample.prefix_bytes) == (8, 9, 28)
    assert "SECRET" not in repr(sample)
    found = [measured(row, each) for each in (body, quoting, marked)]
    assert [each and each.is_marked for each in found] == [False, False, True]
    assert measured(row, b"{}") is None
