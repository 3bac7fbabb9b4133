"""Accounts: each has its own key, lanes, queue and pauses; a request stays with the one that took it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.command_line import succeeded
from tests.fixtures.metrics import scrape
from tests.fixtures.queries import request_states

from carpool import Producer
from carpool.contract import ENTRY_FIELD, INBOX, decode_entry, encode_entry
from carpool_worker import settings
from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import Credentials
from carpool_worker.coordination import connections
from carpool_worker.database import now, read
from carpool_worker.exceptions import ClaudeError
from carpool_worker.pipeline.collection import collector, poller, recognition
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.accounts import Account
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.states import BatchState

RESEARCH = Account(api_key="env:RESEARCH_KEY", clients=("lab-*",), queue_limit=3)
SECOND_LANE = f"{MODEL} account=research"


@pytest.fixture
def researcher(redis_url: str) -> Iterator[Producer]:
    with Producer(redis_url, client="lab-1") as producer:
        yield producer


@pytest.fixture
def clients(carpool: Carpool, simulator: RemoteSimulator) -> dict[str | None, Claude]:
    """A client for each of two accounts, in workspaces of their own."""
    simulator.assign({"sk-research": "wrkspc_research"})
    carpool.accounts = {"research": RESEARCH}
    carpool.submit_policy = replace(carpool.submit_policy, account_limits={"research": 3})
    research = Claude(credentials=Credentials("research", "sk-research"))
    return {None: carpool.claude, "research": research}


def submit(carpool: Carpool, clients: dict[str | None, Claude]) -> list[str]:
    with read(carpool.engine) as connection:
        due = admitted(connection, now(), carpool.submit_policy)
    accounts = dict(carpool.rows("SELECT id, account FROM batches"))
    for batch_id in due:
        carpool.submit_batch(batch_id, clients[accounts[batch_id]])
    return due


def go_on(carpool: Carpool, clients: dict[str | None, Claude]) -> None:
    carpool.forget_waiting()
    carpool.aggregate()
    submit(carpool, clients)
    claudes = list(clients.values())
    for batch_id in poller.poll(carpool.engine, claudes):
        claude = recognition.reader_of(carpool.engine, claudes, batch_id)
        assert claude is not None
        collector.collect(carpool.engine, claude, batch_id, CollectPolicy(3, 0.001), lambda *_: None)
    carpool.stage()


def test_each_account_makes_its_own_batches_and_collects_them(
    carpool: Carpool,
    producer: Producer,
    researcher: Producer,
    clients: dict[str | None, Claude],
    simulator: RemoteSimulator,
) -> None:
    # Given requests for one model, of which some are tried again
    simulator.script(Script(contains="again", outcome="errored", times=1))
    producer.enqueue_many([request("a"), request("again")])
    researcher.enqueue_many([request("b"), request("again, too")])

    # When
    for _ in range(200):
        go_on(carpool, clients)
        if carpool.ended(4):
            break

    # Then each account has run its own, in its own workspace, at each attempt
    assert set(request_states(carpool.engine)) == {"completed"}
    used = carpool.rows(
        "SELECT b.account, b.lane, count(*) FROM requests r JOIN batches b ON b.id = r.batch_id "
        "GROUP BY b.account, b.lane ORDER BY b.lane"
    )
    assert {(row.account, row.lane) for row in used} == {(None, MODEL), ("research", SECOND_LANE)}
    there = {account: {remote.id for remote in claude.list_newest({})} for account, claude in clients.items()}
    for account, claude_id in carpool.rows("SELECT account, claude_id FROM batches"):
        assert claude_id in there[account]
    assert there[None].isdisjoint(there["research"])
    assert len(carpool.rows("SELECT DISTINCT same_as FROM claude_keys")) == 2
    assert {account for (account,) in carpool.rows("SELECT account FROM usage_entries")} == {"", "research"}


def test_a_full_queue_and_a_pause_of_one_account_do_not_stop_another(
    unhurried: Carpool,
    producer: Producer,
    researcher: Producer,
    clients: dict[str | None, Claude],
    simulator: RemoteSimulator,
) -> None:
    carpool = unhurried
    carpool.limits = replace(carpool.limits, count=2)

    # Given two batches of each account, of which research has room for one
    for one in (producer, researcher):
        one.enqueue_many([request(str(n)) for n in range(4)])
    carpool.aggregate()
    with read(carpool.engine) as connection:
        due = admitted(connection, now(), carpool.submit_policy)
    accounts = dict(carpool.rows("SELECT id, account FROM batches"))
    assert sorted(str(accounts[batch_id]) for batch_id in due) == ["None", "None", "research"]

    # When the key of research is refused, Then its lane is paused, and the other's is not
    [refused] = [batch_id for batch_id in due if accounts[batch_id] == "research"]
    simulator.assign({"sk-research": None})
    carpool.submit_batch(refused, clients["research"])
    assert carpool.rows("SELECT lane FROM lane_pauses") == [(SECOND_LANE,)]
    carpool.forget_waiting()
    assert len(submit(carpool, clients)) == 3

    states = carpool.rows("SELECT account, state, count(*) FROM batches GROUP BY account, state")
    assert {tuple(row) for row in states} == {
        (None, BatchState.IN_PROGRESS, 2),
        ("research", BatchState.SEALED, 2),
    }


def test_a_request_that_names_its_account_is_not_asked_for_another(
    carpool: Carpool, researcher: Producer, clients: dict[str | None, Claude]
) -> None:

    # Given entries that name an account: the default one, and one that the settings don't have
    researcher.enqueue(request("a"))
    entries: Any = carpool.server.xrange(INBOX)
    [(entry_id, fields)] = entries
    entry = decode_entry(fields[ENTRY_FIELD])
    carpool.server.xdel(INBOX, entry_id)
    for number, name in enumerate(("default", "elsewhere")):
        named = changed(entry, account=name, ids=bytes([number]) * 16)
        carpool.server.xadd(INBOX, {ENTRY_FIELD: encode_entry(named)})

    carpool.aggregate()

    lanes = {tuple(row) for row in carpool.rows("SELECT account, lane FROM batches")}
    assert lanes == {(None, MODEL), ("elsewhere", f"{MODEL} account=elsewhere")}


def test_an_account_without_a_key_pauses_its_lane_and_says_why(
    carpool: Carpool, researcher: Producer, clients: dict[str | None, Claude]
) -> None:
    researcher.enqueue(request("a"))
    carpool.aggregate()
    [(batch_id,)] = carpool.rows("SELECT id FROM batches")
    keyless = Claude(
        credentials=Credentials("research", "none", unusable="account research: there is no key")
    )

    carpool.submit_batch(batch_id, keyless)

    assert carpool.rows("SELECT lane, reason FROM lane_pauses") == [
        (SECOND_LANE, "account research: there is no key")
    ]


@pytest.mark.usefixtures("command_line", "claudes")
def test_a_process_has_a_client_for_each_key_and_posts_with_the_one_in_use(
    monkeypatch: pytest.MonkeyPatch, simulator: RemoteSimulator
) -> None:
    accounts = {"research": {"api_key": "env:RESEARCH_KEY", "retired_keys": ["env:OLD_KEY"]}}
    monkeypatch.setenv("CARPOOL_ACCOUNTS", json.dumps(accounts))
    monkeypatch.setenv("OLD_KEY", "sk-old")
    settings.settings.cache_clear()

    def keys() -> list[str | None]:
        return [one.credentials.api_key for one in connections.claudes()]

    assert "there is no API key in RESEARCH_KEY" in str(connections.claude("research").credentials.unusable)
    monkeypatch.setenv("RESEARCH_KEY", "sk-research")
    assert keys() == [None, "sk-research", "sk-old"]
    assert connections.claude("research").credentials.api_key == "sk-research"
    assert connections.claude("research") is connections.claude("research")
    assert connections.claude().credentials.account is None
    assert "not in the settings" in str(connections.claude("gone").credentials.unusable)


@pytest.fixture
def fresh_connections() -> Iterator[None]:
    """The connections of this process are opened anew, and closed after the test."""
    caches = (connections.server, connections._claude)
    for one in caches:
        one.cache_clear()
    yield
    connections.server().close()
    for one in caches:
        one.cache_clear()


@pytest.mark.usefixtures("command_line_without_database", "claudes", "simulator", "fresh_connections")
def test_the_rate_limit_of_one_account_holds_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given three accounts, of which one has used up its calls, as an answer to it said
    accounts = {name: {"api_key": "env:OTHER_KEY", "clients": [name]} for name in ("labs", "shop")}
    monkeypatch.setenv("CARPOOL_ACCOUNTS", json.dumps(accounts))
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    settings.settings.cache_clear()
    names = (None, "labs", "shop")
    used_up = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "retry-after": "30",
    }

    def held_back() -> set[str | None]:
        return {name for name in names if _is_held_back(connections.claude(name))}

    for name in names:
        limit = connections.claude(name)._rate_limit
        assert limit
        limit.learn(429, used_up)

        # Then it alone is not asked
        assert held_back() == {name}
        connections.server().flushdb()
    assert held_back() == set()


def _is_held_back(claude: Claude) -> bool:
    try:
        claude.newest({}, 1)
    except ClaudeError as error:
        return "not asked" in str(error)
    return False


@pytest.mark.usefixtures("command_line")
def test_operators_see_the_account_where_there_are_several(
    carpool: Carpool,
    producer: Producer,
    researcher: Producer,
    clients: dict[str | None, Claude],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer.enqueue(request("a"))
    carpool.aggregate()
    submit(carpool, clients)
    assert "default" not in succeeded("batches") + succeeded("status")

    accounts = {"research": {"api_key": "env:RESEARCH_KEY", "clients": ["lab-*"], "queue_limit": 3}}
    monkeypatch.setenv("CARPOOL_ACCOUNTS", json.dumps(accounts))
    settings.settings.cache_clear()
    researcher.enqueue(request("b"))
    carpool.aggregate()
    submit(carpool, clients)

    assert "claude-haiku-4-5 (research)" in succeeded("batches")
    assert "1 of 3 requests at Anthropic" in succeeded("status")
    assert json.loads(succeeded("status", "--json"))["accounts"] == {
        "default": {"requests": 1, "limit": 200_000},
        "research": {"requests": 1, "limit": 3},
    }
    seen = scrape(carpool)
    assert seen.value("queued_requests", account="research") == 1
    assert seen.value("queue_limit", account="research") == 3
    carpool.change("UPDATE batches SET unseen_since = 1 WHERE account = 'research'")
    assert scrape(carpool).value("batches_unseen", account="research") == 1
    assert "an API key that may see it" in succeeded("batches").replace("\n", " ")
