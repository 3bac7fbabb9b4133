"""The list of batches and its cursors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic

BATCHES = "/v1/messages/batches"
Write = Callable[..., dict[str, Any]]


def test_the_list_is_newest_first_and_has_both_cursors(claude: Anthropic, request_of: Write) -> None:
    # Given
    requests: Any = [request_of("r")]
    ids = [claude.messages.batches.create(requests=requests).id for _ in range(5)]
    newest_first = list(reversed(ids))
    # When
    first = claude.messages.batches.list(limit=2)
    older = claude.messages.batches.list(limit=2, after_id=ids[3])
    newer = claude.messages.batches.list(limit=2, before_id=ids[1])
    newest = claude.messages.batches.list(limit=2, before_id=ids[3])
    # Then
    assert [batch.id for batch in first.data] == newest_first[:2]
    assert (first.has_more, first.first_id, first.last_id) == (True, ids[4], ids[3])
    assert [batch.id for batch in older.data] == newest_first[2:4]
    assert [batch.id for batch in newer.data] == [ids[3], ids[2]]
    assert newer.has_more is True
    assert [batch.id for batch in newest.data] == [ids[4]]
    assert newest.has_more is False
    assert [batch.id for batch in claude.messages.batches.list(limit=2)] == newest_first
    assert [batch.id for batch in claude.messages.batches.list(limit=1, before_id=ids[0])] == ids[1:]


def test_an_empty_list_has_no_cursors(http: httpx2.Client) -> None:
    # When
    page = http.get(BATCHES).json()
    # Then
    assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after_id=a&before_id=b"])
def test_the_list_refuses_bad_queries(http: httpx2.Client, query: str) -> None:
    # When
    answer = http.get(f"{BATCHES}?{query}")
    # Then
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
