"""How many requests fit into a batch."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.policies.limits import BODY_FRAME_BYTES, Limits, before_edge, fitting, item_bytes

sizes = st.lists(st.integers(0, 2_000), max_size=50)
limits = st.builds(Limits, st.integers(1, 30), st.integers(1_000, 10_000), st.just(0.0))


@given(sizes, st.integers(0, 40), st.integers(0, 12_000), limits)
def test_a_batch_never_gets_more_than_fits(
    sizes: list[int], count: int, used_bytes: int, limits: Limits
) -> None:
    n = fitting(sizes, count, used_bytes, limits)
    total = BODY_FRAME_BYTES + used_bytes + sum(map(item_bytes, sizes[:n]))

    assert 0 <= n <= len(sizes)
    assert n == 0 or count + n <= limits.count
    assert n == 0 or total <= limits.body_bytes or count + n == 1


@given(sizes.filter(len), limits)
def test_an_empty_batch_always_takes_a_request(sizes: list[int], limits: Limits) -> None:
    assert fitting(sizes, 0, 0, limits) >= 1


@given(sizes, st.integers(0, 40), st.integers(0, 12_000), limits)
def test_a_batch_takes_all_that_fit(sizes: list[int], count: int, used_bytes: int, limits: Limits) -> None:
    n = fitting(sizes, count, used_bytes, limits)
    more = BODY_FRAME_BYTES + used_bytes + sum(map(item_bytes, sizes[: n + 1]))

    assert n == len(sizes) or count + n >= limits.count or more > limits.body_bytes


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 2_000)), min_size=1, max_size=12), limits)
def test_batches_close_at_the_edge_of_a_segment_unless_that_wastes_a_tenth_and_take_all_in_order(
    segments_and_sizes: list[tuple[int, int]], limits: Limits
) -> None:
    # Given segments of some requests each, of one size
    segments = [at for at, (requests, _) in enumerate(segments_and_sizes) for _ in range(requests)]
    sizes = [size for requests, size in segments_and_sizes for _ in range(requests)]
    start = count = used = 0

    # When batches are filled as the aggregator fills them
    while start < len(segments):
        n = fitting(sizes[start:], count, used, limits)
        kept = before_edge(segments[start:], sizes[start:], n, count, limits)
        assert 0 <= kept <= n
        assert kept or count
        left_out = range(start + kept, start + n)
        if left_out:  # Then what is left out is the whole beginning of one segment, and less than a tenth
            assert {segments[at] for at in left_out} == {segments[start + n]}
            assert start + kept == 0 or segments[start + kept - 1] != segments[start + kept]
            assert 10 * len(left_out) <= limits.count
            assert 10 * sum(item_bytes(sizes[at]) for at in left_out) <= limits.body_bytes
        count, used = 0, 0
        start += kept


def test_a_segment_is_split_where_keeping_it_whole_would_leave_more_than_a_tenth_empty() -> None:
    segments, sizes = [1] * 80 + [2] * 80, [100] * 160
    by_count, by_bytes = Limits(100, 10**9, 1), Limits(10**6, 100 * item_bytes(100), 1)
    assert [before_edge(segments, sizes, 100, 0, limits) for limits in (by_count, by_bytes)] == [100, 100]
    assert [before_edge(segments, sizes, 85, 0, limits) for limits in (by_count, by_bytes)] == [80, 80]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=20))
def test_the_bytes_counted_are_those_of_the_body_or_a_few_more(texts: list[str]) -> None:
    params = [json.dumps({"text": text}).encode() for text in texts]
    items = [b'{"custom_id":"%032x","params":%b}' % (n, body) for n, body in enumerate(params)]
    body = b'{"requests":[' + b",".join(items) + b"]}"

    counted = BODY_FRAME_BYTES + sum(item_bytes(len(one)) for one in params)

    assert len(body) <= counted <= len(body) + 1
