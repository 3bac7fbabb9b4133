"""The producer: puts requests into the inbox and waits for their answers."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, suppress
from time import monotonic
from typing import Any, Self, Unpack

import redis
from redis.retry import Retry

from carpool.envelopes import Common, Params, Request
from carpool.options import DEFAULT_MAX_QUEUED, ONE_RETRY, PATIENT_RETRY, SOCKET, Options
from carpool.packer import Command, Packer
from carpool.request_ids import RequestIds
from carpool.results import Result
from carpool.waiting import Waiting

LOST = (redis.ConnectionError, redis.TimeoutError)


class Producer:
    """Enqueues requests for Message Batches. It connects when first used, and threads may share it.

    `url` defaults to CARPOOL_REDIS_URL, else redis://127.0.0.1:6379/0; `client`, the name of the service,
    to CARPOOL_CLIENT, else "default". `max_queued` is the most requests that the inbox may hold
    (0: no limit). `allow_http` allows webhooks without TLS. Raises InvalidSetting.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: str | None = None,
        max_queued: int = DEFAULT_MAX_QUEUED,
        allow_http: bool = False,
    ) -> None:
        self._options = Options.resolve(url, client, max_queued, allow_http)
        self._redis = redis.Redis.from_url(self._options.url, retry=Retry(*ONE_RETRY), **SOCKET)
        self._patient_redis = redis.Redis.from_url(self._options.url, retry=Retry(*PATIENT_RETRY), **SOCKET)

    def enqueue(self, params: Params, *, idempotency_key: str | None = None, **common: Unpack[Common]) -> str:
        """Enqueue one request and return its id, 32 hex digits.

        `params` are those of the Messages API; the other keywords (`callback`, `metadata`, `betas`, …)
        stand in `Common`. The same `idempotency_key` from the same client is the same request.
        Raises InvalidRequest, QueueFull or RedisUnavailable; then nothing is enqueued, save that the
        request may be when the connection broke before Redis answered (`unknown` holds its id then).
        """
        packer = Packer(self._options, common)
        packer.add(Request(params, idempotency_key=idempotency_key))
        self._append_rest(packer)
        return packer.accepted[0]

    def enqueue_many(self, requests: Iterable[Params | Request], **common: Unpack[Common]) -> RequestIds:
        """Enqueue any number of requests, in order and in bounded memory, and return their ids.

        The keywords of `Common` are the defaults of all; a `Request` brings its own. Raises what `enqueue`
        does, and SourceFailed where the iterable raised; `accepted` and `unknown` of the error say which
        requests Redis has. All before an invalid request are enqueued, none after it.
        """
        packer = Packer(self._options, common)
        with packer.holding_failure():
            for request in requests:
                if packer.add(request):
                    self._append(packer)
        self._append_rest(packer)
        return packer.finish()

    def wait(self, request_id: str, timeout: float | None = None) -> Result:
        """Return the result of a request of this client, whichever process enqueued it.

        Raises WaitTimeout after `timeout` seconds; None waits for as long as it takes.
        """
        with closing(self.as_completed([request_id], timeout)) as results:
            return next(results)

    def as_completed(self, ids: Iterable[str], timeout: float | None = None) -> Generator[Result, None, None]:
        """Yield the results of requests of this client as they end, each distinct id once.

        Raises RedisUnavailable if Redis is away at the start; when it goes away later, the wait goes on
        until `timeout` (seconds, for all), then WaitTimeout with the `outstanding` ids. An id that nobody
        enqueued never ends. Close the iterator, or exhaust it, to free what the wait holds in Redis.
        """
        return self._results(Waiting(self._options, ids, timeout, monotonic()))

    def close(self) -> None:
        """Close the connections; the producer opens new ones when it is used again."""
        self._redis.close()
        self._patient_redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _append_rest(self, packer: Packer) -> None:
        packer.close_entry()
        self._append(packer)

    def _append(self, packer: Packer) -> None:
        while packer.pending:
            try:
                replies = _execute(self._redis, packer.commands())
            except LOST as error:
                raise packer.unanswered(error) from error
            packer.settle(replies)

    def _results(self, waiting: Waiting) -> Generator[Result, None, None]:
        try:
            self._register(waiting)
            while not waiting.done:
                yield from self._read(waiting)
        finally:
            with suppress(redis.RedisError):
                self._redis.delete(waiting.reply_to)

    def _register(self, waiting: Waiting) -> None:
        try:
            waiting.confirm(_execute(self._redis, waiting.commands(monotonic())))
        except LOST as error:
            raise self._options.unavailable(error) from error

    def _read(self, waiting: Waiting) -> list[Result]:
        try:
            _execute(self._redis, waiting.commands(monotonic()))
            return waiting.take(_execute(self._patient_redis, [waiting.read_command(monotonic())]))
        except LOST:
            waiting.repeat_all(monotonic())
            return []


def _execute(connection: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """Return a reply for each command, with Redis' refusals as values; one round trip."""
    if len(commands) == 1:
        try:
            return [connection.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            return [error]
    with connection.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute(raise_on_error=False)
