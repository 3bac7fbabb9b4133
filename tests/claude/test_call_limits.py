"""Calls in real time keep within the account's limits: a token bucket, and what the API's answers say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest
import redis
from tests.fixtures.waiting import until

from carpool_worker.claude.credentials import DEFAULT
from carpool_worker.claude.fence import Fence
from carpool_worker.claude.messages import KINDS, Messages
from carpool_worker.claude.rate_limit import RateLimit
from carpool_worker.claude.token_bucket import TokenBucket
from carpool_worker.coordination import connections
from carpool_worker.exceptions import ClaudeError
from carpool_worker.policies.real_time import BURST_SECONDS
from carpool_worker.settings import read_settings
from carpool_worker.simulator import Fault, RemoteSimulator, SimulatorOptions, running

KEY = "carpool:calls-due"
LIMITED = "carpool:calls-limited"
ASKED = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}

TAKER = """
import sys
import redis
from carpool_worker.claude.token_bucket import TokenBucket
server = redis.Redis.from_url(sys.argv[1])
bucket = TokenBucket(server, sys.argv[2], per_minute=6, burst=200)
print("ready", flush=True)
server.blpop("start", 30)
taken = 0
while bucket.take(1)[0]:
    taken += 1
print(taken)
"""


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as one:
        yield one


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteSimulator]:
    """An API that takes three calls of the Messages API a minute."""
    options = SimulatorOptions(data=tmp_path / "simulator", messages_per_minute=3)
    with running(options) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-simulated")
        yield simulator


@pytest.fixture
def process(api: RemoteSimulator, redis_url: str) -> Iterator[Callable[..., Messages]]:
    """Make a client as each process has one for an account, with a connection of its own."""
    with ExitStack() as stack:

        def start(account: str = "") -> Messages:
            own = stack.enter_context(redis.Redis.from_url(redis_url))
            messages = Messages(RateLimit(own, LIMITED + account, KINDS), DEFAULT, 10.0)
            stack.callback(messages.close)
            return messages

        yield start


def refusal(messages: Messages) -> ClaudeError | None:
    try:
        messages.call(json.dumps(ASKED).encode(), {}, "a" * 32, Fence(10.0))
    except ClaudeError as error:
        return error
    return None


def left(kind: str, remaining: int, limit: int = 1_000) -> dict[str, str]:
    """The headers of an answer that leaves so many of a kind until 50 seconds from now."""
    reset = (datetime.now(UTC) + timedelta(seconds=50)).isoformat(timespec="seconds")
    named = {"limit": f"{limit}", "remaining": f"{remaining}", "reset": reset}
    return {f"anthropic-ratelimit-{kind}-{name}": value for name, value in named.items()}


def test_after_a_pause_a_burst_goes_at_once_and_then_one_as_each_is_due(server: redis.Redis) -> None:
    # Given one token each 20 ms, and room for ten
    bucket = TokenBucket(server, KEY, per_minute=3_000, burst=0.2)
    began = monotonic()

    # When
    first, wait = bucket.take(100)

    # Then
    assert first == 10
    assert 0 < wait <= 0.02
    more = 0

    def took_ten_more() -> bool:
        nonlocal more
        taken, _ = bucket.take(10 - more)
        more += taken
        return more == 10

    until(took_ten_more, 10)
    assert monotonic() - began >= 9 * 0.02
    # And the burst is there again after a pause, however long that was
    until(lambda: not server.exists(KEY), 10)
    assert bucket.take(100)[0] == 10


def test_a_limit_below_one_in_the_burst_still_lets_one_through(server: redis.Redis) -> None:
    bucket = TokenBucket(server, KEY, per_minute=1, burst=10.0)

    assert bucket.take(5)[0] == 1
    taken, wait = bucket.take(1)
    assert (taken, 50 < wait <= 60) == (0, True)


def test_processes_take_from_one_bucket_no_more_than_it_has(redis_url: str, server: redis.Redis) -> None:
    # Given three processes, and twenty tokens for all of them
    command = [sys.executable, "-c", TAKER, redis_url, KEY]
    takers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for one in takers:
        assert one.stdout
        assert one.stdout.readline() == "ready\n"

    # When they start at the same moment
    server.rpush("start", *"123")
    taken = [int(one.communicate(timeout=30)[0]) for one in takers]

    # Then (another one is due each ten seconds)
    assert 20 <= sum(taken) <= 26


def test_one_accounts_bucket_is_not_anothers(server: redis.Redis) -> None:
    research, shop = (
        TokenBucket(server, f"{KEY}:{name}", per_minute=6, burst=60) for name in ("research", "shop")
    )

    assert research.take(100)[0] == 6
    assert research.take(1)[0] == 0
    assert shop.take(100)[0] == 6


def test_calls_stop_before_the_api_has_to_refuse_one_in_all_processes(
    api: RemoteSimulator, process: Callable[..., Messages]
) -> None:
    # Given
    one, other = process(), process()

    # When both call until they are not allowed to
    made = 0
    while not one.seconds_until_allowed():
        assert refusal((one, other)[made % 2]) is None
        made += 1

    # Then (another one is due each twenty seconds)
    assert made >= 3
    assert api.ledger()["billed_in_real_time"] == made
    assert 0 < other.seconds_until_allowed() <= 60
    # And another account's go on
    assert process("research").seconds_until_allowed() == 0

    # When it calls all the same, Then the 429 is certain, says when to call again, and costs nothing
    error = refusal(one)
    assert error
    assert (error.status, error.kind, error.certain, error.retry_after) == (429, "rate_limit_error", True, 1)
    assert api.ledger()["billed_in_real_time"] == made


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "requests"])  # that one is above
def test_a_refusal_for_a_limit_of_tokens_stops_all_processes_of_the_account_until_its_reset(
    api: RemoteSimulator, process: Callable[..., Messages], kind: str
) -> None:
    # Given
    headers = left(kind, 0)
    api.arm(Fault(operation="messages", kind="error", status=429, retry_after=5, headers=headers))
    one, other = process(), process()

    # When
    error = refusal(one)

    # Then
    assert error
    assert (error.status, error.certain, error.retry_after) == (429, True, 5)
    assert 5 < other.seconds_until_allowed() <= 51
    assert process("research").seconds_until_allowed() == 0


def test_a_refusal_that_names_no_limit_of_tokens_stops_them_for_as_long_as_it_says(
    api: RemoteSimulator, process: Callable[..., Messages]
) -> None:
    api.arm(Fault(operation="messages", kind="error", status=429, retry_after=7))
    one, other = process(), process()

    assert refusal(one)

    assert 0 < other.seconds_until_allowed() <= 7


def test_an_overloaded_api_is_certain_to_have_run_nothing_and_uses_up_no_limit(
    api: RemoteSimulator, process: Callable[..., Messages]
) -> None:
    # Given
    api.arm(Fault(operation="messages", kind="error", status=529, retry_after=3))
    one = process()

    # When
    error = refusal(one)

    # Then only this call waits
    assert error
    assert (error.status, error.kind, error.certain) == (529, "overloaded_error", True)
    assert error.retry_after == 3
    assert one.seconds_until_allowed() == 0
    assert api.ledger()["billed"] == 0
    assert refusal(one) is None


def test_the_setting_says_how_many_calls_each_account_may_make(
    server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "server", lambda: server)
    monkeypatch.setattr(connections, "settings", lambda: read_settings(real_time_requests_a_minute=120))

    taken = [connections.call_bucket(account).take(1_000)[0] for account in (None, "research")]

    assert taken == [120 * BURST_SECONDS / 60] * 2
