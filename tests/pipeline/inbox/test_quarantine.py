"""Inbox entries that can't be read are quarantined, and an operator can see them, drop them and retry them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.agents import request
from tests.fixtures.command_line import run

from carpool import Producer
from carpool.contract import (
    CANCEL_FIELD,
    ENTRY_FIELD,
    INBOX,
    QUEUED,
    Cancel,
    encode_cancel,
    encode_entry,
)
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.limits import Limits

SECRET = "the patient's name"
quarantine = partial(run, "quarantine")
pytestmark = pytest.mark.usefixtures("command_line_without_database")


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as server:
        yield server


def aggregate(engine: sa.Engine, server: Any) -> None:
    aggregator.aggregate(engine, Inbox(server, 30), Limits(10, 1_000_000, 60), lambda _: None)


def given_unreadable(engine: sa.Engine, server: Any) -> str:
    server.xadd(INBOX, {ENTRY_FIELD: SECRET.encode()})
    aggregate(engine, server)
    [(entry_id, _)] = server.xrange(QUARANTINE)
    return str(entry_id.decode())


def given_readable_since(producer: Producer, server: Any) -> str:
    """An entry that an older version could not read, as an upgrade finds it."""
    producer.enqueue(request(SECRET))
    [(entry_id, fields)] = server.xrange(INBOX)
    server.xdel(INBOX, entry_id)
    server.set(QUEUED, 0)
    return str(server.xadd(QUARANTINE, fields | {b"error": b"ValueError: too new"}).decode())


def test_an_empty_quarantine_says_so() -> None:
    assert quarantine().output == "The quarantine is empty.\n"


def test_an_entry_without_any_known_field_says_so(engine: sa.Engine, server: Any) -> None:
    server.xadd(INBOX, {b"junk": b"1"})
    aggregate(engine, server)
    facts = json.loads(quarantine("--json").output)
    assert facts["reason"] == "ValueError: it has no field that this version knows"


def test_the_list_shows_when_how_large_and_why_and_quotes_nothing(engine: sa.Engine, server: Any) -> None:
    # Given
    entry_id = given_unreadable(engine, server)

    # When
    table, lines = quarantine(), quarantine("--json")

    # Then
    assert entry_id in table.output
    facts = json.loads(lines.output)
    assert (facts["id"], facts["bytes"]) == (entry_id, len(SECRET))
    assert facts["reason"].startswith(("DecodeError", "ValidationError"))
    assert SECRET not in table.output + lines.output
    assert max(map(len, table.output.splitlines())) <= 80


def test_content_is_shown_only_where_it_is_asked_for(engine: sa.Engine, server: Any) -> None:
    # Given
    entry_id = given_unreadable(engine, server)

    # When / Then
    assert SECRET[:16] not in quarantine("show", entry_id).output
    assert SECRET[:16] in quarantine("show", entry_id, "--content").output


def test_an_entry_is_dropped_once_its_loss_is_confirmed(engine: sa.Engine, server: Any) -> None:
    # Given
    entry_id = given_unreadable(engine, server)

    # When / Then
    assert quarantine("drop", entry_id, answer="n\n").exit_code == 1
    assert server.xlen(QUARANTINE) == 1
    assert quarantine("drop", entry_id, "--yes").output == "1 entry dropped.\n"
    assert server.xlen(QUARANTINE) == 0


def test_an_entry_that_can_be_read_now_is_pooled_once(
    engine: sa.Engine, server: Any, producer: Producer
) -> None:
    # Given
    entry_id = given_readable_since(producer, server)

    # When it is retried, however often
    first, second = quarantine("retry", entry_id), quarantine("retry", entry_id)
    queued = server.get(QUEUED)
    aggregate(engine, server)

    # Then its request is in the tables, and the inbox' count is right
    assert (first.output, queued) == ("1 entry put back into the inbox.\n", b"1")
    assert (second.exit_code, server.get(QUEUED), server.xlen(QUARANTINE)) == (1, b"0", 0)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM requests")) == 1


def test_a_cancel_command_that_can_be_read_now_goes_back_into_the_inbox(server: Any) -> None:
    # Given
    command = {CANCEL_FIELD: encode_cancel(Cancel("billing", None, 1))}
    entry_id = server.xadd(QUARANTINE, command).decode()

    # When / Then
    assert quarantine("retry", entry_id).output == "1 entry put back into the inbox.\n"
    assert [fields for _, fields in server.xrange(INBOX)] == [command]
    assert server.get(QUEUED) == b"0"


@pytest.mark.parametrize("fields", [{ENTRY_FIELD: SECRET}, {b"v9": b"1"}, {ENTRY_FIELD: encode_entry([1])}])
def test_an_entry_that_still_cant_be_read_stays(server: Any, fields: dict[Any, Any]) -> None:
    # Given
    entry_id = server.xadd(QUARANTINE, fields).decode()

    # When
    retried = quarantine("retry", entry_id)

    # Then
    assert retried.exit_code == 1
    assert "stays in the quarantine" in retried.output
    assert SECRET not in retried.output
    assert (server.xlen(QUARANTINE), server.xlen(INBOX)) == (1, 0)


@pytest.mark.parametrize("command", ["show", "drop", "retry"])
@pytest.mark.parametrize("entry_id", ["1-1", "nonsense"])
def test_an_entry_that_isnt_there_is_named_in_one_line(command: str, entry_id: str) -> None:
    ran = quarantine(command, entry_id)

    assert (ran.exit_code, ran.output) == (1, f"carpool: The quarantine has no entry {entry_id}.\n")
