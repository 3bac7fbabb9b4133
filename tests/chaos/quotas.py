"""A client at its quota, while producers, gateways, workers and Valkey die, and while Redis loses what it counted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from random import Random
from typing import Any

import redis
import sqlalchemy as sa
from tests.chaos.gateways import started
from tests.chaos.occupancy import Call, Stay, most, too_many
from tests.chaos.operating import carpool
from tests.chaos.producing import CLIENT as MORTAL
from tests.chaos.scenario import scenario
from tests.chaos.settling import settle
from tests.chaos.stack import Stack
from tests.chaos.traffic import MODELS, SECRET, requests
from tests.conftest import free_port
from tests.fixtures.gateway_calls import post
from tests.fixtures.waiting import until

from carpool import CarpoolError, Producer
from carpool.quotas import LOADS, QUOTAS
from carpool_worker.coordination.keys import RESERVED
from carpool_worker.database import read
from carpool_worker.models import tables
from carpool_worker.pipeline.inbox.shards import SHARDS
from carpool_worker.store.requests.segments import stored_at

CLIENT = "script"
"""One of the traffic's clients, whose answers are waited for; all of these enqueue for it, beside the traffic."""

QUOTA, MORTALS_QUOTA = 60, 30
QUOTAS_SETTING = json.dumps({CLIENT: {"requests": QUOTA}, MORTAL: {"requests": MORTALS_QUOTA}})

CROWD = 3
"""Producers that enqueue at a time, and as many callers of the gateways."""

MOST_AT_ONCE = 5
OTHERS = 5
"""Requests of each of the traffic's clients after each blow."""

AGAIN_SECONDS = 0.05
BLOWS, PAUSE = 10, (1.0, 4.0)
LOSSES = 2
TOLD_SECONDS = 60.0
"""A second or two, and as long as processes take to come up that have just died, and read what the dead had claimed."""

FREE_SECONDS = 10.0
"""Until what was counted too much is put right: a second or so once somebody was refused, on a busy machine."""


class Crowd:
    """Producers and callers that enqueue for the client as fast as they are let in, until `end`.

    `calls` has the enqueues that were answered at the first try.
    """

    def __init__(self, stack: Stack, urls: list[str], secret: str) -> None:
        self.calls: list[Call] = []
        self.refused = 0
        self._stack, self._urls, self._secret = stack, urls, secret
        self._over = threading.Event()
        doors = [self._produce, self._call] * CROWD
        self._threads = [threading.Thread(target=door, args=(Random(stack.luck.random()),)) for door in doors]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Enqueue no more; return once every call is over."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _produce(self, luck: Random) -> None:
        with _producer(self._stack) as producer:
            while not self._over.wait(AGAIN_SECONDS):
                some, began = list(requests(luck, luck.randint(1, MOST_AT_ONCE))), _now()
                try:
                    self._accept(producer.enqueue_many(some), began)
                except CarpoolError as error:
                    self.refused += 1
                    self._stack.traffic.unknown |= set(error.unknown)
                    self._stack.traffic.expect(error.accepted)

    def _call(self, luck: Random) -> None:
        while not self._over.wait(AGAIN_SECONDS):
            key, tries = f"{luck.random()}", 0
            message = {"role": "user", "content": f"[plain] {SECRET} {key}"}
            params = {"model": luck.choice(MODELS), "max_tokens": 64, "messages": [message]}
            while (status := self._post(luck.choice(self._urls), key, params, tries)) not in (202, 429):
                tries += 1
                time.sleep(AGAIN_SECONDS)
                if status not in (None, 503, 529):
                    self._stack.broken.append(f"the gateway answered a call with {status}")
                    break

    def _post(self, url: str, key: str, params: dict[str, Any], tries: int) -> int | None:
        began = _now()
        try:
            reply = post(url, self._secret, params, prefer="respond-async", idempotency_key=key)
        except (OSError, HTTPException):
            return None
        if reply.status == 202:
            # That of a repeated call may have been accepted before: when, nobody knows.
            self._accept([reply.headers["x-carpool-request-id"]], None if tries else began)
        elif reply.status == 429:
            self.refused += 1
            return None if tries else 429  # the call before may have been accepted: only 202 will tell
        return reply.status

    def _accept(self, ids: Any, began: int | None) -> None:
        if began is not None:
            self.calls.append(Call(began, _now(), list(ids)))
        self._stack.traffic.expect(ids)


@scenario(
    "a client at its quota, with everything killed", seconds=180, workers=2, CARPOOL_QUOTAS=QUOTAS_SETTING
)
def at_its_quota(stack: Stack) -> None:
    """Kill everything while a client is at its quota; then let Redis lose what it counted; then its room is free."""
    stack.traffic.stop()  # as it waits for this client's answers alone, the others would flood the machine
    [key] = carpool(stack, "keys", "create", CLIENT, "--json")
    ports = [free_port(), free_port()]
    gateways = [started(stack, number, port) for number, port in enumerate(ports)]
    victims = [*gateways, *stack.workers, stack.valkey, stack.beat]
    crowd = Crowd(stack, [f"http://127.0.0.1:{port}" for port in ports], key["secret"])
    unlimited: list[Stay] = []
    try:
        for moment in range(BLOWS):
            time.sleep(stack.luck.uniform(*PAUSE))
            victim = stack.luck.choice(victims)
            victim.kill()
            stack.inject(f"{victim.name}: SIGKILL")
            stack.produce(moment)
            stack.traffic.send(OTHERS)
        for _ in range(LOSSES):
            time.sleep(stack.luck.uniform(*PAUSE))
            unlimited.append(_lose(stack))
            stack.inject("Redis: what it counted is lost")
        time.sleep(max(PAUSE))
    finally:
        crowd.end()
    if late := settle(stack):
        stack.broken.append(late)
        return
    _check(stack, crowd, unlimited)
    _fill(stack)


def _lose(stack: Stack) -> Stay:
    """Lose what Redis knows of quotas; return how long too many could be let in.

    Nobody is refused until the quotas are there again; what was let in by then, and what the inbox had before, counts
    once it is in the tables; and what came into these during the first count counts with the second.
    """
    until(lambda: _answers(stack, lambda server: server.exists(QUOTAS)), TOLD_SECONDS)
    began = _now()
    with stack.connection() as server:
        server.delete(QUOTAS, LOADS, RESERVED)
        until(lambda: server.exists(QUOTAS), TOLD_SECONDS)
        epoch = server.hget(LOADS, "epoch")
        inboxes = [shard.inbox for shard in SHARDS if server.exists(shard.inbox)]
        lasts = {inbox: server.xinfo_stream(inbox)["last-generated-id"] for inbox in inboxes}
        until(
            lambda: not any(server.xrange(inbox, max=last, count=1) for inbox, last in lasts.items()),
            TOLD_SECONDS,
        )
        until(lambda: server.hget(LOADS, "epoch") != epoch, TOLD_SECONDS)
    return Stay(began, _now())


def _check(stack: Stack, crowd: Crowd, unlimited: list[Stay]) -> None:
    """Break the promise where more waited than may, but for what came while nobody was refused."""
    acknowledged = {id_: call.ended for call in crowd.calls for id_ in call.ids}
    row = tables.requests.c
    columns = sa.select(row.id, row.client, row.segment_id, row.finished_at)
    stays: dict[str, dict[str, Stay]] = {CLIENT: {}, MORTAL: {}}
    with read(stack.engine) as connection:
        for id_, client, segment_id, finished_at in connection.execute(columns):
            if client in stays:
                began = min(stored_at(segment_id), acknowledged.get(id_, finished_at))
                stays[client][id_] = Stay(began, finished_at)
    first_loss = unlimited[0].began
    for client, quota in ((CLIENT, QUOTA), (MORTAL, MORTALS_QUOTA)):
        if (highest := most(stays[client].values(), first_loss)) > quota:
            stack.broken.append(f"{highest} requests of {client} waited, whose quota is {quota}")
        ever = most(stays[client].values())
        stack.notes.append(
            f"{client}: at most {highest} of {quota} waited before Redis lost its counts, {ever} ever"
        )
    stack.broken += list(too_many(crowd.calls, stays[CLIENT], QUOTA, unlimited))[:3]
    told = ", ".join(f"{(one.ended - one.began) / 1_000:.1f} s" for one in unlimited)
    stack.notes.append(f"refused {crowd.refused:,} times; after a loss too many could be let in for {told}")


def _fill(stack: Stack) -> None:
    """Break the promise if the whole quota isn't free soon."""
    rest = list(requests(Random(stack.luck.random()), QUOTA))
    with _producer(stack) as producer:

        def fits() -> bool:
            accepted: Sequence[str]
            try:
                accepted = producer.enqueue_many(rest)
            except CarpoolError as error:
                stack.traffic.unknown |= set(error.unknown)
                accepted = error.accepted
            stack.traffic.expect(accepted)
            del rest[: len(accepted)]
            return not rest

        try:
            until(fits, FREE_SECONDS)
        except TimeoutError:
            stack.broken.append(f"nothing waits, and yet {len(rest)} of {QUOTA} requests are not let in")


def _producer(stack: Stack) -> Producer:
    return Producer(stack.redis_url, client=CLIENT, allow_http=True, durable=True)


def _answers(stack: Stack, ask: Callable[[redis.Redis], Any]) -> Any:
    """Ask Valkey; None while it is away."""
    with suppress(redis.RedisError), stack.connection() as server:
        return ask(server)
    return None


def _now() -> int:
    return int(time.time() * 1_000)
