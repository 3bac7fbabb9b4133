"""The producer: puts requests into the inbox and waits for their answers."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from time import monotonic, sleep
from typing import Self, Unpack

import redis
from redis.retry import Retry

from carpool.cancellation import Cancellation
from carpool.envelopes import Common, Params, Request
from carpool.options import DEFAULT_MAX_QUEUED, NO_RETRY, ONE_RETRY, RECONNECT_SECONDS, SOCKET, Options
from carpool.packer import Packer
from carpool.pipelining import LOST, Flight, execute
from carpool.request_ids import RequestIds
from carpool.results import Result
from carpool.waiting import Waiting


class Producer:
    """Enqueues requests for Message Batches. It connects when first used, and threads may share it.

    `url` defaults to CARPOOL_REDIS_URL, else redis://127.0.0.1:6379/0; `client`, the name of the service,
    to CARPOOL_CLIENT, else "default". `max_queued` is the most requests that the inbox may hold
    (0: no limit). `allow_http` allows webhooks without TLS. With `durable` a call returns only when Redis has
    written to its disk what the call appended; that takes a tenth of a second to two, and Redis 7.2 or Valkey with
    `appendonly yes`. Raises InvalidSetting.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: str | None = None,
        max_queued: int = DEFAULT_MAX_QUEUED,
        allow_http: bool = False,
        durable: bool = False,
    ) -> None:
        self._options = Options.resolve(url, client, max_queued, allow_http, durable)
        self._redis = redis.Redis.from_url(self._options.url, retry=Retry(*ONE_RETRY), **SOCKET)
        self._reader = redis.Redis.from_url(self._options.url, retry=Retry(*NO_RETRY), **SOCKET)

    def enqueue(self, params: Params, *, idempotency_key: str | None = None, **common: Unpack[Common]) -> str:
        """Enqueue one request and return its id, 32 hex digits.

        `params` are those of the Messages API; the other keywords (`callback`, `metadata`, `betas`, …)
        stand in `Common`. The same `idempotency_key` from the same client is the same request.
        Raises InvalidRequest, QueueFull, RedisUnavailable or NotDurable; then nothing is enqueued, save that
        the request may be when the connection broke before Redis answered, or when Redis has it but could not
        confirm that it is on disk (`unknown` holds its id then).
        """
        packer = Packer(self._options, common)
        packer.add(Request(params, idempotency_key=idempotency_key))
        with Flight(self._redis, packer) as flight:
            flight.finish()
        return packer.accepted[0]

    def enqueue_many(self, requests: Iterable[Params | Request], **common: Unpack[Common]) -> RequestIds:
        """Enqueue any number of requests, in order and in bounded memory, and return their ids.

        The keywords of `Common` are the defaults of all; a `Request` brings its own. Raises what `enqueue`
        does, and SourceFailed where the iterable raised; `accepted` and `unknown` of the error say which
        requests Redis has. All before an invalid request are enqueued, none after it.
        """
        packer = Packer(self._options, common)
        with Flight(self._redis, packer) as flight:
            with packer.holding_failure():
                for request in requests:
                    if packer.add(request):
                        flight.relaunch()
            flight.finish()
        return packer.finish()

    def cancel(self, *request_ids: str) -> None:
        """Cancel requests of this client: nobody wants their answers any more.

        Returns as soon as Redis has the wish; a full inbox takes it too, and to repeat it changes nothing. What
        becomes of each request its end tells, in `wait` and at its callback: canceled, at no cost, where it was
        not sent yet or Anthropic had not run it; canceled, with the true usage and cost, where its answer had been
        made: that one is paid for and dropped; and as it ended, where it had ended before. A request that is
        enqueued under this id later, by its idempotency key, is canceled too.
        Raises InvalidRequest for what is no id (then nothing is canceled), RedisUnavailable or NotDurable.
        """
        self._cancel(Cancellation(self._options, request_ids))

    def cancel_all(self) -> None:
        """Cancel all that this client, by any of its processes, has enqueued until now; see `cancel`.

        What counts is the time of each enqueue by its machine's clock: it is compared with this machine's.
        """
        self._cancel(Cancellation(self._options, None))

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
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _cancel(self, cancellation: Cancellation) -> None:
        try:
            if commands := cancellation.commands():
                cancellation.confirm(execute(self._redis, commands))
        except LOST as error:
            raise self._options.unavailable(error) from error
        sleep(cancellation.seconds_to_wait)

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
            waiting.confirm(execute(self._redis, waiting.commands(monotonic())))
        except LOST as error:
            raise self._options.unavailable(error) from error

    def _read(self, waiting: Waiting) -> list[Result]:
        try:
            execute(self._redis, waiting.commands(monotonic()))
            return waiting.take(execute(self._reader, [waiting.read_command(monotonic())]))
        except LOST:
            waiting.repeat_all(monotonic())
            sleep(RECONNECT_SECONDS)
            return []
