"""Replies: answers pushed to the producers that wait for them.

What was enqueued with `reply=True` names a list of its producer, to which the process that commits the answers pushes
them at once, packed as they are stored. For all else a producer puts Waits on a list. They are registered in a hash by
request id, where the process that commits an answer checks whether a producer waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, cast

import redis
import sqlalchemy as sa

from carpool.contract import (
    REPLIES,
    REPLY_TTL,
    REQUEST_ID,
    WAITS,
    Answer,
    PackedAnswers,
    Wait,
    decode_wait,
    encode_answers,
    to_json,
)
from carpool_worker import database
from carpool_worker.coordination.keys import WAITING, WAITING_UNTIL
from carpool_worker.pipeline.delivery.channels import not_there
from carpool_worker.pipeline.delivery.channels.reply_scripts import (
    PUSH_PACKED_SCRIPT,
    PUSH_SCRIPT,
    REGISTER_SCRIPT,
    UNREGISTER_SCRIPT,
)
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

REGISTRY = [WAITING, WAITING_UNTIL]
"""Who waits for what."""

WAITS_AT_A_TIME = 100
"""Taken from the list with one command."""

RUN_SECONDS = 10.0
"""The longest that one run lasts; the next tick's run takes over."""

IDS_AT_A_TIME = 250
"""Answers in memory at a time."""

REPLY_LENGTH = 500
"""PackedAnswers in a reply list at most: 100,000 answers, about 30 MB. What comes when it is full is dropped, and its
producer asks for it with a Wait."""


def answer_waits(connection: redis.Redis, engine: sa.Engine, retention_days: float = 0) -> int:
    """Register the producers' waits and push the answers that exist already; return how many were pushed.

    Of what is neither in the tables nor can be in the inbox any more, producers are told that it is not there; requests
    are kept for `retention_days` (0: forever).

    The `carpool.reply` task calls it within a second of a wait, one at a time. A crash loses the waits it had taken:
    producers repeat theirs, so that delays an answer but never loses one.
    """
    pushed, deadline = 0, monotonic() + RUN_SECONDS
    while monotonic() < deadline and (taken := connection.lpop(WAITS, WAITS_AT_A_TIME)):
        waits = [wait for packed in cast("list[bytes]", taken) if (wait := _read(packed))]
        over = {wait.reply_to for wait in waits if wait.is_over}
        for wait in waits:
            if wait.is_over:
                _unregister(connection, wait)
            else:
                pushed += _answer_wait(connection, engine, wait)
                if wait.age is not None and wait.reply_to not in over:
                    _tell_what_is_not_there(connection, engine, wait, retention_days)
    return pushed


def push(connection: redis.Redis, answers: Mapping[str, Answer]) -> int:
    """Push answers, which must be committed, to the producers that wait for them; return how many were pushed.

    Where Redis, or a producer's list, has no room for an answer, its producer gets it when it asks again.
    """
    if not answers:
        return 0
    script = connection.register_script(PUSH_SCRIPT)
    triples = [(id_, answer.client, to_json(answer)) for id_, answer in answers.items()]
    arguments = [REPLY_TTL, *(field for triple in triples for field in triple)]
    pushed, left_out = map(int, script(keys=REGISTRY, args=arguments))
    if left_out:
        log.warning("no room in Redis for answers that producers wait for", count=left_out)
    return pushed


def push_packed(connection: redis.Redis, replies: Mapping[str, Sequence[PackedAnswers]]) -> int:
    """Push answers, which must be committed, to the reply lists that their entries named; return how many items fitted.

    One round trip. A list keeps the first REPLY_LENGTH items, for REPLY_TTL seconds after the last push, and no more
    than Redis has room for. What does not fit, or is lost in a crash before the push, is asked for by its producer with
    a Wait.
    """
    if not replies:
        return 0
    script = connection.register_script(PUSH_PACKED_SCRIPT)
    arguments: list[int | bytes] = [REPLY_TTL, REPLY_LENGTH]
    for answers in replies.values():
        arguments += [len(answers), *map(encode_answers, answers)]
    return int(script(keys=list(replies), args=arguments))


def waited(connection: redis.Redis, ids: Sequence[str]) -> set[str]:
    """Return those of `ids` that a producer waits for; if none waits for anything, that is one cheap command."""
    if not ids or not connection.hlen(WAITING):
        return set()
    waiters = cast("list[Any]", connection.hmget(WAITING, list(ids)))
    return {id_ for id_, known in zip(ids, waiters, strict=True) if known is not None}


def _read(packed: bytes) -> Wait | None:
    """Return a wait, or None if it is malformed: answers are pushed to nothing but reply lists."""
    try:
        wait = decode_wait(packed)
    except (ValueError, RecursionError, MemoryError):  # msgspec's errors are ValueErrors
        wait = None
    if wait and wait.reply_to.startswith(REPLIES) and all(map(REQUEST_ID.fullmatch, wait.ids)):
        return wait
    log.warning("unreadable wait dropped", bytes=len(packed))
    return None


def _answer_wait(connection: redis.Redis, engine: sa.Engine, wait: Wait) -> int:
    # First register, then read: a collector that commits in between sees the registration, and what was committed
    # before is read. The other way round, an answer committed in between would be missed.
    register = connection.register_script(REGISTER_SCRIPT)
    pushed = 0
    for ids in _slices(wait.ids):
        register(keys=REGISTRY, args=[wait.client, wait.reply_to, *ids])
        with database.read(engine) as sql:
            answers = load_answers(sql, ids, wait.client)
        pushed += push(connection, answers)
    return pushed


def _tell_what_is_not_there(
    connection: redis.Redis, engine: sa.Engine, wait: Wait, retention_days: float
) -> None:
    for ids in _slices(wait.ids):
        not_there.tell(connection, engine, wait, ids, retention_days)


def _unregister(connection: redis.Redis, wait: Wait) -> None:
    unregister = connection.register_script(UNREGISTER_SCRIPT)
    for ids in _slices(wait.ids):
        unregister(keys=REGISTRY, args=[wait.client, wait.reply_to, *ids])


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + IDS_AT_A_TIME] for start in range(0, len(ids), IDS_AT_A_TIME))
