"""Results in any order, over many clients and kinds of callbacks: each answer goes to its own place and receiver."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import celery
import pytest
import redis
import sqlalchemy as sa
from standardwebhooks import Webhook as Verifier
from tests.fixtures.agents import Carpool, request
from tests.fixtures.clients import Edited
from tests.fixtures.deliveries import WEBHOOK_SECRET, webhook_settings
from tests.fixtures.queries import answer_bodies

from carpool import Producer, Task, Webhook, waiting
from carpool.callbacks import Callback
from carpool.contract import WAITS
from carpool_worker.claude import results
from carpool_worker.database import read
from carpool_worker.models import tables
from carpool_worker.pipeline.collection.replies import Replies
from carpool_worker.pipeline.delivery import courier
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.store.requests.segments import split

CLIENTS = ("shop", "support", "library", "press")
ALIKE = 5
"""Requests of a client with the same callback."""
CHUNK = 33
"""Lines of results committed together: no multiple of ALIKE."""
WRONG = "invalid_request_error"


class Enqueued(NamedTuple):
    """What a client asked for."""

    client: str
    text: str
    callback: Callback | None
    reply: bool

    @property
    def told(self) -> str:
        """What its answer says: its own text, or the type of its error."""
        return WRONG if "wrong" in self.text else self.text


@pytest.fixture
def producers(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Producer]]:
    monkeypatch.setattr(waiting, "GRACE", 1_000.0)  # nothing is asked for
    made = {client: Producer(redis_url, client=client, allow_http=True) for client in CLIENTS}
    yield made
    for producer in made.values():
        producer.close()


def enqueued(producers: dict[str, Producer], receiver: Any) -> dict[str, Enqueued]:
    """Enqueue requests of every client with each kind of callback, with a reply and without; return them by id."""
    all_: dict[str, Enqueued] = {}
    for client, replied in itertools.product(CLIENTS, (False, True)):
        task = Task(f"{client}.on_answer", queue=client)
        hooks = [Webhook(receiver.url(f"/{client}/{path}")) for path in ("a", "b")]
        for kind, callback in enumerate((None, task, *hooks)):
            texts = [f"{client} {replied} {kind} {n}{' wrong' * (n == 1)}" for n in range(ALIKE)]
            ids = producers[client].enqueue_many(map(request, texts), callback=callback, reply=replied)
            asked = [Enqueued(client, text, callback, replied) for text in texts]
            all_ |= dict(zip(ids, asked, strict=True))
    return all_


def told(answer: Any) -> str:
    """What an answer says, as a receiver gets it or as it is stored."""
    if error := answer.get("error"):
        return str(error.get("error", error)["type"])
    return str(answer["message"]["content"][0]["text"]).partition(": ")[2]


def shuffled(seed: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: random.Random(seed).sample(lines, len(lines))


def got_by_tasks(redis_url: str) -> dict[str, tuple[str, str]]:
    """By id, the name of the task that got an answer in its client's queue, and what that said."""
    got = {}
    with celery.Celery(broker=redis_url) as app, app.connection_for_read() as connection:
        for client in CLIENTS:
            with connection.SimpleQueue(client) as queue:
                for _ in range(queue.qsize()):
                    message = queue.get(block=False)
                    message.ack()
                    [answer] = json.loads(message.body)[0]
                    got[answer["id"]] = message.headers["task"], told(answer)
    return got


def got_by_webhooks(receiver: Any) -> dict[str, tuple[str, str]]:
    """By id, the URL that an answer was posted to, and what that said."""
    got = {}
    for path, posts in receiver.posts.items():
        for headers, body in posts:
            answer = Verifier(WEBHOOK_SECRET).verify(body, headers)["data"]
            assert headers["webhook-id"] == answer["id"] not in got
            got[answer["id"]] = receiver.url(path), told(answer)
    return got


@pytest.mark.parametrize("seed", [1, 2])
def test_each_answer_goes_to_its_own_place_and_its_own_receiver(
    carpool: Carpool,
    producers: dict[str, Producer],
    simulator: RemoteSimulator,
    receiver: Any,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    # Given one batch with requests of many clients
    monkeypatch.setattr(results, "CHUNK_LINES", CHUNK)
    simulator.script(Script(contains="wrong", outcome="errored", error_type=WRONG))
    asked = enqueued(producers, receiver)
    carpool.aggregate()
    carpool.submit()
    carpool.until_polled("ended")
    assert len(carpool.rows("SELECT id FROM batches")) == 1

    # When its results come in any order, and are pushed and delivered
    carpool.announce = partial(push, carpool.server)  # type: ignore[method-assign]
    carpool.claude = Edited(shuffled(seed))
    carpool.collect()
    with celery.Celery(broker=redis_url) as app:
        courier.deliver(carpool.engine, app, webhook_settings())

    # Then each answer is at the position of its request
    own = {id_: one.told for id_, one in asked.items()}
    assert {id_: told(json.loads(body)) for id_, body in answer_bodies(carpool.engine).items()} == own
    assert by_positions(carpool) == {id_: id_ for id_ in asked}

    # And each callback got its own answers, and no other
    assert got_by_webhooks(receiver) == {
        id_: (one.callback.url, one.told) for id_, one in asked.items() if isinstance(one.callback, Webhook)
    }
    assert got_by_tasks(redis_url) == {
        id_: (one.callback.name, one.told) for id_, one in asked.items() if isinstance(one.callback, Task)
    }

    # And each producer the replies that it asked for, with nothing asked
    for client, producer in producers.items():
        theirs = {id_: one.told for id_, one in asked.items() if one.client == client and one.reply}
        came = producer.as_completed(theirs, timeout=20)
        said = {one.id: one.error.type if one.error else one.text.partition(": ")[2] for one in came}
        assert said == theirs
    assert not carpool.server.exists(WAITS)


def push(server: redis.Redis, request_ids: Sequence[str], replies: Replies) -> None:
    reply.push_packed(server, replies)


def by_positions(carpool: Carpool) -> dict[str, str]:
    """By the id of each request, the id that its segment of answers has at its position."""
    row = tables.requests.c
    with read(carpool.engine) as connection:
        segments = connection.execute(sa.select(tables.answers.c.id, tables.answers.c.ids))
        ids = {segment_id: split(joined) for segment_id, joined in segments}
        places = connection.execute(sa.select(row.id, row.answer_id, row.answer_position))
        return {id_: ids[answer_id][position] for id_, answer_id, position in places}
