"""A create's body is cut and checked as it arrives, however it is written and wherever its blocks end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool_worker.batch_bodies import spool
from carpool_worker.batch_bodies.spool import BodyRefused, BodySpool, Item, read_part

PARAMS: dict[str, Any] = {
    "model": "claude-haiku-4-5",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "é"}],
}
LIKE_AN_ITEM = {
    "custom_id": 'tricky ,{"custom_id":"x","params":{}}',
    "list": [{"custom_id": "no"}, {"custom_id": 1}],
}


class Seen:
    """What the spool shows of a body."""

    def __init__(self) -> None:
        self.items: list[tuple[str, Any]] = []

    def see(self, first: int, items: Sequence[Item]) -> None:
        del self.items[first:]
        assert len(self.items) == first
        self.items += [(item.custom_id, json.loads(bytes(item.params))) for item in items]


def spooled(body: bytes, block: int = 50) -> list[tuple[str, Any]]:
    """The requests of a body that arrives in blocks of this size, as they are read back."""
    seen = Seen()
    with tempfile.TemporaryFile(buffering=0) as file:
        spooling = BodySpool(file, seen.see)
        for start in range(0, len(body), block):
            spooling.feed(body[start : start + block])
        size, bounds = spooling.finish()
        parts = zip(bounds[::2], bounds[1::2], strict=True)
        read = [item for start, end in parts for item in read_part(file, start, end)]
    found = [(item.custom_id, json.loads(bytes(item.params))) for item in read]
    assert len(found) == size
    assert seen.items == found
    return found


def plain(*requests: tuple[str, Any]) -> bytes:
    items = [{"custom_id": custom_id, "params": params} for custom_id, params in requests]
    return json.dumps({"requests": items}, separators=(",", ":"), ensure_ascii=False).encode()


def spacious(*requests: tuple[str, Any]) -> bytes:
    items = [{"params": params, "custom_id": custom_id} for custom_id, params in requests]
    return json.dumps({"requests": items}, indent=2).encode()


@pytest.mark.parametrize("write", [plain, spacious])
@pytest.mark.parametrize("block", [1, 7, 100, 100_000])
def test_every_way_to_write_a_body_is_read(write: Any, block: int) -> None:
    requests = [(f"number-{number}", PARAMS | {"nested": LIKE_AN_ITEM}) for number in range(30)]

    assert spooled(write(*requests), block) == requests


@settings(max_examples=50, deadline=None)
@given(
    texts=st.lists(st.text(max_size=20), min_size=1, max_size=12),
    block=st.integers(1, 80),
    is_plain=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_requests_come_back_as_they_were_sent(texts: list[str], block: int, is_plain: list[bool]) -> None:
    # Given a body in which each request is written in its own way
    requests = [
        (f"r{number}", {"text": text.encode(errors="replace").decode()}) for number, text in enumerate(texts)
    ]
    items = [
        (plain if one else spacious)(request)[len('{"requests":[') : -2]
        if one
        else json.dumps({"params": request[1], "custom_id": request[0]}).encode()
        for request, one in zip(requests, is_plain, strict=False)
    ]

    assert spooled(b'{"requests":[' + b",".join(items) + b"]}", block) == requests


@pytest.mark.parametrize(
    "body", ['{"requests":[{"custom_id":"a","params":%s}]}', '{"requests": [{"params":%s,"custom_id":"a"}]}']
)
def test_the_params_keep_their_bytes(body: str) -> None:
    params = '{"temperature":0.10,"max_tokens":1e2,"text":"\\u00e9é"}'
    with tempfile.TemporaryFile(buffering=0) as file:
        spooling = BodySpool(file)
        spooling.feed((body % params).encode())
        start, end = spooling.finish().parts
        [item] = read_part(file, start, end)
    assert bytes(item.params) == params.encode()


REFUSED = {
    b"": "The request body is not valid JSON",
    b"[]": "request body: Input should be a valid dictionary",
    b"{}": "requests: Field required",
    b'{"requests":[]}': "requests: List should have at least 1 item after validation, not 0",
    b'{"requests":{}}': "requests: Input should be a valid list",
    b'{"requests":[{"params":{}}]}': "requests.0.custom_id: Field required",
    b'{"requests":[{"custom_id":"a"}]}': "requests.0.params: Field required",
    b'{"requests":[{"custom_id":"a","params":[]}]}': "requests.0.params: Input should be a valid dictionary",
    b'{"requests":[{"custom_id":"a","params":{},"extra":1}]}': "requests.0.extra: Extra inputs are not permitted",
    b'{"requests":[{"custom_id":"a b","params":{}}]}': "requests.0.custom_id: String should match pattern",
    b'{"requests":[{"custom_id":"'
    + b"a" * 65
    + b'","params":{}}]}': "String should have at most 64 characters",
    b'{"requests":[{"custom_id":"a","params":{"x":"\xff"}}]}': "not valid JSON: invalid UTF-8",
    b'{"requests":[{"custom_id":"a","params":{}}': "The request body is not valid JSON",
    plain(
        ("a", {}), ("b", {}), ("a", {})
    ): "custom_id's must be unique within a batch. Duplicate custom_id found: a",
    b'{"requests":[{"custom_id":"a","params":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}]}": "nested too deeply",
}


@pytest.mark.parametrize("body", REFUSED, ids=[*map(str, range(len(REFUSED)))])
def test_what_breaks_a_rule_is_refused_in_the_apis_words(body: bytes) -> None:
    with pytest.raises(BodyRefused) as refusal:
        spooled(body, 1_000)

    assert REFUSED[body] in str(refusal.value)


@pytest.mark.parametrize("write", [plain, spacious])
def test_a_batch_may_have_so_many_requests_and_no_more(monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
    monkeypatch.setattr(spool, "MAX_REQUESTS", 3)
    requests: list[tuple[str, Any]] = [(f"number-{number}", {}) for number in range(4)]

    assert spooled(write(*requests[:3])) == requests[:3]
    with pytest.raises(BodyRefused, match="List should have at most 3 items after validation, not 4"):
        spooled(write(*requests))
