"""Who may call, and how often."""

from __future__ import annotations

from collections.abc import Callable

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from carpool_worker.simulator import RemoteSimulator

BATCHES = "/v1/messages/batches"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer sk", "anthropic-version": "2026-10-21"}, 200),
        ({"x-api-key": "sk", "anthropic-version": "2023-06-01"}, 200),
        ({"anthropic-version": "2023-06-01"}, 401),
        ({"authorization": "Basic c2s=", "anthropic-version": "2026-10-21"}, 401),
        ({"x-api-key": "sk"}, 400),
        ({"x-api-key": "sk", "anthropic-version": "2020-01-01"}, 400),
    ],
)
def test_both_kinds_of_authentication_are_taken_and_nothing_else(
    simulator: RemoteSimulator, headers: dict[str, str], status: int
) -> None:
    # When
    answer = httpx2.get(simulator.url + BATCHES, headers=headers)
    # Then
    assert answer.status_code == status
    if status == 401:
        body = answer.json()
        assert body["error"]["type"] == "authentication_error"
        assert body["request_id"] == answer.headers["request-id"]


def test_every_answer_tells_the_rate_limit(http: httpx2.Client) -> None:
    # When
    first, second = http.get(BATCHES), http.get(f"{BATCHES}/unknown")
    # Then
    assert first.headers["anthropic-ratelimit-requests-limit"] == "1000"
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "999"
    assert second.headers["anthropic-ratelimit-requests-remaining"] == "998"
    assert second.headers["anthropic-ratelimit-requests-reset"].endswith("Z")


def test_more_calls_a_minute_than_allowed_are_refused(
    start: Callable[..., RemoteSimulator], connect: Callable[[RemoteSimulator], Anthropic]
) -> None:
    # Given
    claude = connect(start(requests_per_minute=2))
    for _ in range(2):
        claude.messages.batches.list()
    # When
    with pytest.raises(anthropic.RateLimitError) as refusal:
        claude.messages.batches.list()
    # Then
    assert refusal.value.response.headers["retry-after"] == "1"
