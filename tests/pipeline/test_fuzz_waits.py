"""Whatever stands among the waits: it is dropped, the producers that wait are answered, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given
from tests.fixtures.agents import Carpool, request
from tests.pipeline.fuzzing import fuzzed

from carpool import Producer
from carpool.contract import INBOX, QUEUED, WAITS, Wait, encode_wait
from carpool_worker.pipeline.delivery.channels.reply import answer_waits

REPLIES = "carpool:reply:good"

texts = st.text() | st.sampled_from(
    [INBOX, QUEUED, WAITS, "celery", "carpool:reply:\0", "tests", "a" * 5_000]
)
waits = st.one_of(
    st.binary(),
    st.lists(st.text() | st.lists(st.text()) | st.integers(0, 9), max_size=4).map(msgspec.msgpack.encode),
    st.builds(lambda *fields: encode_wait(Wait(*fields)), texts, texts, st.lists(texts, max_size=3)),
    st.integers(0, 3_000).map(lambda levels: b"\x91" * levels),
    st.integers(0, 2**32 - 1).map(lambda size: b"\xdd" + size.to_bytes(4, "big")),
)


def test_a_wait_that_is_none_costs_nobody_an_answer(carpool: Carpool, producer: Producer) -> None:
    # Given a request that has ended
    request_id = producer.enqueue(request())
    carpool.until(lambda: carpool.ended(1))
    untouched: Any = [carpool.server.type(key) for key in (INBOX, QUEUED)]

    @fuzzed(60)
    @given(st.lists(waits, max_size=4), st.lists(waits, max_size=4))
    def attack(before: list[bytes], after: list[bytes]) -> None:
        # When somebody waits for it, among others
        good = encode_wait(Wait("tests", REPLIES, [request_id]))
        carpool.server.rpush(WAITS, *before, good, *after)
        answer_waits(carpool.server, carpool.engine)

        # Then
        assert carpool.server.llen(REPLIES) == 1
        assert carpool.server.llen(WAITS) == 0
        assert [carpool.server.type(key) for key in (INBOX, QUEUED)] == untouched
        carpool.server.delete(REPLIES)

    attack()
