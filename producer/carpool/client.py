"""The producer: enqueues requests and waits for their answers."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from time import monotonic, sleep
from typing import Self, Unpack

import redis
from redis.exceptions import NoScriptError
from redis.retry import Retry

from carpool.append_script import append_command
from carpool.cancellation import CancelCommand
from carpool.enqueue_options import EnqueueOptions, Params, Request
from carpool.entries import CheckedRequest, pack_entry
from carpool.exceptions import IdempotencyConflict
from carpool.idempotency import claims_of, conflicts
from carpool.options import DEFAULT_MAX_QUEUED, NO_RETRY, ONE_RETRY, RECONNECT_SECONDS, SOCKET, Options
from carpool.packer import Packer
from carpool.pipelining import LOST, DirectConnections, PipelinedAppend, append, execute
from carpool.redis_url import connect
from carpool.refusals import is_accepted, refusal
from carpool.request_ids import RequestIds
from carpool.results import Result
from carpool.shards import shard_of
from carpool.waiting import PING, ReplyWaiter


class Producer:
    """Enqueues requests for Message Batches. It connects when first used, and threads may share it.

    `url` defaults to CARPOOL_REDIS_URL, else redis://127.0.0.1:6379/0; `client`, the name of your service, to
    CARPOOL_CLIENT, else "default". `max_queued` is the most requests that may be in the inbox, of all clients
    together; 0 means no limit. `allow_http` (or CARPOOL_ALLOW_HTTP=1) allows webhooks without TLS. With `durable`,
    a call returns only once Redis has written to disk what it appended: that takes 0.1 to 2 seconds, and needs
    Redis 7.2 or Valkey with `appendonly yes`. `inbox_shards` (or CARPOOL_INBOX_SHARDS; default 1) is how many streams
    it spreads its requests over, so that as many aggregators can work at once; the worker reads them all, whatever
    other producers do. Each takes an equal share of `max_queued`, so `QueueFull` is raised when one has its share.
    `key_prefix` (or CARPOOL_KEY_PREFIX) is that of the worker, where several share a Redis. `durable_replicas` is how
    many replicas must have the requests on disk too before a call returns; it includes `durable`.

    Raises:
        InvalidSetting: an argument, or the environment variable in its place, breaks a rule.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: str | None = None,
        max_queued: int = DEFAULT_MAX_QUEUED,
        allow_http: bool = False,
        durable: bool = False,
        inbox_shards: int | None = None,
        key_prefix: str | None = None,
        durable_replicas: int = 0,
    ) -> None:
        self._options = Options.resolve(
            url, client, max_queued, allow_http, durable, inbox_shards, key_prefix, durable_replicas
        )
        address = self._options.url, self._options.key_prefix
        self._redis = connect(*address, retry=Retry(*ONE_RETRY), **SOCKET)
        self._direct = DirectConnections(self._redis)
        self._reader = connect(*address, retry=Retry(*NO_RETRY), **SOCKET)

    def enqueue(
        self, params: Params, *, idempotency_key: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> str:
        """Enqueue one request and return its id, 32 hex digits.

        `params` are those of the Messages API; `EnqueueOptions` explains the other keywords (`callback`, `metadata`,
        `betas`, …). The same `idempotency_key` from the same client is the same request.

        Raises:
            InvalidRequest: the params or an option break a rule; nothing is enqueued. IdempotencyConflict, which is
                one: the key was used with other params, within the last day or more (docs/services.md).
            QueueFull: the inbox is full, or the client's quota is reached (`quota` says which); nothing is enqueued.
            RedisUnavailable: Redis does not answer, or refuses. If the connection broke before Redis replied, the
                request may be enqueued all the same: then `unknown` has its id.
            NotDurable: Redis could not confirm that the request is on disk. If Redis may have it, `unknown` has its id.
        """
        request = self._options.check(options).request(params, idempotency_key)
        if self._options.durable or not self._append_directly(request):
            packer = Packer(self._options)
            packer.pack(request)
            packer.close()
            append(self._redis, packer)
        return request.id.hex()

    def enqueue_many(
        self, requests: Iterable[Params | Request], **options: Unpack[EnqueueOptions]
    ) -> RequestIds:
        """Enqueue any number of requests, in order and in bounded memory, and return their ids.

        The options are the defaults of all requests; a `Request` may have its own. The requests before an invalid
        one are enqueued, and none after it, unless Redis had to be asked: those next to an IdempotencyConflict are
        enqueued, too. The error's `accepted` has the ids that Redis acknowledged, and `unknown` those of requests
        that it may have.

        Raises:
            SourceFailed: the iterable raised; its exception is the error's cause.
            InvalidRequest, QueueFull, RedisUnavailable, NotDurable: as in `enqueue`.
        """
        packer = Packer(self._options, self._options.check(options))
        with PipelinedAppend(self._redis, packer) as pipeline:
            with packer.deferring_failure():
                for request in requests:
                    if packer.add(request):
                        pipeline.send()
            pipeline.finish()
        return packer.finish()

    def cancel(self, *request_ids: str) -> None:
        """Cancel requests of this client, whose answers are no longer wanted.

        Returns as soon as Redis has the command, which a full inbox accepts too; repeating it changes nothing. What
        `wait` returns, and the callback gets, shows how each request ended: canceled at no cost, if it had not been
        sent or Anthropic had not run it yet; canceled with its usage and cost, if its answer had been made, which is
        then paid for and dropped; unchanged, if it had ended before. A request that is enqueued later under one of
        these ids, by its idempotency key, is canceled too.

        Raises:
            InvalidRequest: an id is malformed; nothing is canceled.
            RedisUnavailable, NotDurable: as in `enqueue`.
        """
        self._cancel(CancelCommand(self._options, request_ids))

    def cancel_all(self) -> None:
        """Cancel all requests that this client, in any of its processes, has enqueued until now; see `cancel`.

        The time of each enqueue, by the clock of its machine, is compared with the time on this machine.
        """
        self._cancel(CancelCommand(self._options, None))

    def wait(self, request_id: str, timeout: float | None = None) -> Result:
        """Return the result of a request of this client, whichever process enqueued it.

        Raises:
            RequestUnknown: this client has enqueued no such request: the worker has read all that was there when the
                wait began. RequestForgotten, which is one, where its retention is over.
            WaitTimeout: there was no answer within `timeout` seconds (None: no limit).
            RedisUnavailable: Redis was away when the wait began.
        """
        with closing(self.as_completed([request_id], timeout)) as results:
            return next(results)

    def as_completed(self, ids: Iterable[str], timeout: float | None = None) -> Generator[Result, None, None]:
        """Yield the results of requests of this client as they end, once for each distinct id.

        `timeout` is in seconds, for all of them. Exhaust the iterator, or close it, to free the memory that the wait
        takes in Redis.

        Raises:
            RequestUnknown: in the end, if some are no requests of this client; see `wait`.
            WaitTimeout: not every answer came in time; `outstanding` has the ids without one.
            RedisUnavailable: Redis was away when the wait began; if it goes away later, the wait continues.
        """
        return self._results(ReplyWaiter(self._options, ids, timeout, monotonic()))

    def close(self) -> None:
        """Drop unread answers, and close the connections; the producer opens new ones when it is used again."""
        if unread := self._options.pushed.abandoned():
            with suppress(redis.RedisError):
                self._redis.delete(unread)
        self._redis.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _append_directly(self, request: CheckedRequest) -> bool:
        """Append a request in one round trip; return False if Redis didn't reply, or lacks the script.

        Raises what `Packer.settle` raises.
        """
        try:
            shard, size = shard_of(request.id, self._options.inbox_shards), len(request.params)
            packed, claims = pack_entry([request]), claims_of([request])
            reply = self._direct.send(
                append_command(
                    *(self._options, request.terms, packed), requests=1, size=size, shard=shard, claims=claims
                )
            )
        except LOST:
            return False
        if is_accepted(reply):
            return True
        if isinstance(reply, NoScriptError):
            return False
        if request.idempotency_key is not None and conflicts(reply):
            raise IdempotencyConflict(request.idempotency_key, request.id.hex())
        raise refusal(self._options, reply)

    def _cancel(self, command: CancelCommand) -> None:
        try:
            if commands := command.commands():
                command.confirm(execute(self._redis, commands))
        except LOST as error:
            raise self._options.unavailable(error) from None
        sleep(command.seconds_to_wait)

    def _results(self, waiter: ReplyWaiter) -> Generator[Result, None, None]:
        waiter.join()
        try:
            yield from waiter.results()
            if not waiter.done:
                self._register(waiter)
            while not waiter.done:
                self._read(waiter)
                yield from waiter.results()
        finally:
            waiter.leave()
            with suppress(redis.RedisError):
                execute(self._redis, waiter.last_commands())

    def _register(self, waiter: ReplyWaiter) -> None:
        try:
            waiter.confirm(execute(self._redis, waiter.commands(monotonic()) or [PING]))
        except LOST as error:
            raise self._options.unavailable(error) from None

    def _read(self, waiter: ReplyWaiter) -> None:
        try:
            execute(self._redis, waiter.commands(monotonic()))
            replies = execute(self._reader, [waiter.read_command(monotonic())])
            execute(self._redis, waiter.receive(replies))
        except LOST:
            waiter.repeat_all(monotonic())
            sleep(RECONNECT_SECONDS)
