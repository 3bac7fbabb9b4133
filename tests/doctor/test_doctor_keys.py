"""The doctor on API keys: whether they see the batches that Carpool has made."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from tests.fixtures.doctor import Doctor
from tests.fixtures.doubts import post_as_a_stranger

from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import Credentials
from carpool_worker.database import now, open_engine, write
from carpool_worker.models.tables import batches
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.batches.filling import FRESH, new_id


@pytest.fixture
def made(
    doctor: Doctor, sqlite_url: str, simulator: RemoteSimulator, claudes: None
) -> Iterator[tuple[sa.Engine, str]]:
    """A batch that the key sk-ours has made; its id at Anthropic."""
    simulator.assign({"sk-ours": "wrkspc_a", "sk-other": "wrkspc_b"})
    doctor.set(ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-other")
    claude_id = post_as_a_stranger(Claude(credentials=Credentials(api_key="sk-ours"))).id
    engine = open_engine(sqlite_url)
    row = {"id": new_id(), "lane": "m", "model": "m", "headers": "{}", "state": "in_progress"}
    with write(engine) as connection:
        connection.execute(
            sa.insert(batches).values(FRESH | row | {"opened_at": now(), "claude_id": claude_id})
        )
    yield engine, claude_id
    engine.dispose()


def test_a_key_of_another_workspace_is_found(doctor: Doctor, made: tuple[sa.Engine, str]) -> None:
    doctor.finds("keys", "wrong", f"no key of it sees its newest batch, {made[1]}")


def test_a_retired_key_that_sees_the_batch_is_enough_and_one_that_is_not_there_is_named(
    doctor: Doctor, made: tuple[sa.Engine, str]
) -> None:
    accounts = {"default": {"retired_keys": ["env:OLD_KEY", "env:OLDER_KEY"]}}
    doctor.set(CARPOOL_ACCOUNTS=json.dumps(accounts), OLD_KEY="sk-ours")

    doctor.finds("keys", "warning", "account default: there is no key in env:OLDER_KEY")
    doctor.finds("keys", "ok", f"a key of it sees its newest batch, {made[1]}")


def test_batches_that_wait_for_a_key_are_found(doctor: Doctor, made: tuple[sa.Engine, str]) -> None:
    with write(made[0]) as connection:
        connection.execute(sa.update(batches).values(unseen_since=now(), account="research"))

    doctor.finds("keys", "wrong", "account research: 1 batch waits since")


def test_each_account_is_asked_with_its_own_key(
    doctor: Doctor, simulator: RemoteSimulator, made: tuple[sa.Engine, str]
) -> None:
    accounts = {"research": {"api_key": "env:RESEARCH_KEY", "queue_limit": 7}}
    doctor.set(CARPOOL_ACCOUNTS=json.dumps(accounts))

    doctor.finds("claude", "wrong", "account research: there is no API key in RESEARCH_KEY")

    doctor.set(RESEARCH_KEY="sk-ours")
    doctor.finds("claude", "ok", "accepts the key of account research")
    doctor.finds("claude", "warning", "queue_limit is 7")


def test_without_a_key_nothing_is_said_of_what_it_sees(
    doctor: Doctor, made: tuple[sa.Engine, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")

    assert [one for one in doctor() if one["check"] == "keys"] == []


def test_a_list_that_does_not_show_our_batch_is_found(
    doctor: Doctor, made: tuple[sa.Engine, str], simulator: RemoteSimulator
) -> None:
    doctor.set(ANTHROPIC_API_KEY="sk-ours")
    doctor.finds("keys", "ok", "a key of it sees its newest batch")
    simulator.arm(Fault(operation="list", kind="stub", times=9))

    one = doctor.finds("keys", "wrong", f"the list of batches does not show {made[1]}, which is there")

    assert "docs/relays.md" in one.mend
