"""The API's limit of calls a minute: obeyed from its headers, by all processes that share a Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from carpool_worker.claude.client import Claude
from carpool_worker.claude.rate_limit import RateLimit
from carpool_worker.coordination.keys import RATE_LIMITED
from carpool_worker.exceptions import ClaudeError
from carpool_worker.simulator import SimulatorOptions, running


@pytest.fixture(autouse=True)
def strict_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An API that takes ten calls a minute."""
    with running(SimulatorOptions(data=tmp_path / "simulator", requests_per_minute=10)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-simulated")
        yield


@contextmanager
def process(redis_url: str) -> Iterator[Claude]:
    """A client as each process has one, with a connection of its own."""
    with redis.Redis.from_url(redis_url) as server:
        claude = Claude(RateLimit(server, RATE_LIMITED))
        yield claude
        claude.close()


def refusal(claude: Claude) -> ClaudeError | None:
    try:
        claude.newest({}, 1)
    except ClaudeError as error:
        return error
    return None


def test_the_headers_are_obeyed_so_that_no_429_is_ever_met(redis_url: str) -> None:
    with process(redis_url) as one, process(redis_url) as other:
        answers = [refusal(claude) for _ in range(15) for claude in (one, other)]

    made, refused = answers[:10], answers[10:]
    assert made == [None] * 10
    assert all(error and "not asked" in str(error) for error in refused)
    assert all(error and (error.certain, error.status) == (True, 429) for error in refused)
    assert all(error and 0 < (error.retry_after or 0) <= 60 for error in refused)


def test_calls_are_allowed_again_after_the_reset(redis_url: str) -> None:
    with process(redis_url) as claude, redis.Redis.from_url(redis_url) as server:
        while refusal(claude) is None:
            pass
        assert 0 < server.pttl(RATE_LIMITED) <= 60_000
        server.delete(RATE_LIMITED)  # as it does by itself when the minute is over

        # Then the API is asked again; here its minute is not over, and its 429 stops everybody again
        error = refusal(claude)
        assert error
        assert "rate_limit_error" in str(error)
        assert "not asked" in str(refusal(claude))


def test_while_redis_is_away_calls_are_made(redis_url: str) -> None:
    with redis.Redis.from_url("redis://127.0.0.1:1/0") as nowhere:
        claude = Claude(RateLimit(nowhere, RATE_LIMITED))

        assert refusal(claude) is None
        claude.close()
