"""The in-memory producer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self, Unpack

import msgspec

from carpool import callbacks
from carpool.append_script import entry_of
from carpool.callbacks import Callback
from carpool.contract import Answer, Envelope, Usage, decode_entry, to_json
from carpool.enqueue_options import EnqueueOptions, Params, Request
from carpool.entries import envelopes
from carpool.exceptions import CarpoolError, RequestUnknown, WaitTimeout
from carpool.idempotency import CONFLICT
from carpool.keywords import DEADLINE_POLICIES
from carpool.options import DEFAULT_MAX_QUEUED, Options
from carpool.outstanding import checked_id
from carpool.packer import Command, Packer
from carpool.request_ids import RequestIds
from carpool.results import Result
from carpool.testing_answers import canceled, failed, signed_webhook, succeeded


class Enqueued(msgspec.Struct, frozen=True):
    """A request that was enqueued, in a form for a test's assertions."""

    id: str
    params: dict[str, Any]
    callback: Callback | None
    metadata: Any
    idempotency_key: str | None
    headers: dict[str, str]
    priority: int
    max_wait: float | None  # seconds
    tags: tuple[str, ...] = ()
    deadline: float | None = None  # seconds since the epoch
    deadline_policy: str = DEADLINE_POLICIES[0]


class InMemoryProducer:
    """Stands in for Producer in tests: it records what is enqueued, and returns the answers that the test gives.

    With `reply`, a function from params to the answer's text, each request is answered immediately; without it, the
    test calls `answer`, `fail` or `cancel`.
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
        reply: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self._options = Options.resolve(url, client, max_queued, allow_http, inbox_shards=inbox_shards)
        self._reply = reply
        self._envelopes: dict[str, Envelope] = {}
        self._answers: dict[str, Answer] = {}
        self._canceled: set[str] = set()

    @property
    def enqueued(self) -> list[Enqueued]:
        """The requests so far, in order; one enqueued again under its idempotency key is listed once."""
        return [_enqueued(envelope) for envelope in self._envelopes.values()]

    def enqueue(
        self, params: Params, *, idempotency_key: str | None = None, **options: Unpack[EnqueueOptions]
    ) -> str:
        """Record one request, checked as by `Producer.enqueue`, and return its id."""
        packer = Packer(self._options)
        packer.pack(self._options.check(options).request(params, idempotency_key))
        self._append(packer)
        return packer.accepted[0]

    def enqueue_many(
        self, requests: Iterable[Params | Request], **options: Unpack[EnqueueOptions]
    ) -> RequestIds:
        """Record requests, checked as by `Producer.enqueue_many`, and return their ids."""
        with self.recording(options) as packer, packer.deferring_failure():
            for request in requests:
                packer.add(request)
        return packer.finish()

    @contextmanager
    def recording(self, options: EnqueueOptions) -> Iterator[Packer]:
        """Lend a packer, and record what it holds at the end; for producers that are made of this one."""
        packer = Packer(self._options, self._options.check(options))
        yield packer
        self._append(packer)

    def answer(
        self, request_id: str, text: str, *, usage: Usage | None = None, cost: str | None = None
    ) -> Result:
        """End a request as succeeded with this text, and return what its callback would get.

        `cost` is in dollars, as a decimal string. Raises RequestUnknown if it was not enqueued, CarpoolError if it has
        ended.
        """
        return self._end(succeeded(self._envelope(request_id), text, usage, cost))

    def fail(
        self, request_id: str, kind: str = "api_error", message: str = "", outcome: str = "errored"
    ) -> Result:
        """End a request with this error instead of a message, and return what its callback would get.

        Raises RequestUnknown if it was not enqueued, CarpoolError if it has ended.
        """
        return self._end(failed(self._envelope(request_id), kind, message, outcome))

    def cancel(self, *request_ids: str) -> None:
        """End requests as canceled, at no cost, unless they have ended; one not enqueued yet ends as soon as it is."""
        self._canceled.update(map(checked_id, request_ids))
        for request_id in request_ids:
            if request_id in self._envelopes and request_id not in self._answers:
                self._end(canceled(self._envelopes[request_id]))

    def cancel_all(self) -> None:
        """End all requests that have not ended as canceled, at no cost."""
        self.cancel(*(self._envelopes.keys() - self._answers))

    def webhook(self, request_id: str, secret: str) -> tuple[bytes, dict[str, str]]:
        """Return the body and the signed headers of the webhook that a receiver would get for an ended request.

        Raises RequestUnknown if it was not enqueued, CarpoolError if it has not ended.
        """
        self._envelope(request_id)
        if request_id not in self._answers:
            raise CarpoolError(f"request {request_id} has no answer yet: call answer, fail or cancel first")
        return signed_webhook(self._answers[request_id], secret)

    def wait(self, request_id: str, timeout: float | None = None) -> Result:
        """Return the result of a request; raises WaitTimeout immediately if the test gave no answer."""
        return next(self.as_completed([request_id], timeout))

    def as_completed(self, ids: Iterable[str], timeout: float | None = None) -> Generator[Result, None, None]:
        """Yield the results that exist; then raise WaitTimeout if some are missing, RequestUnknown if not enqueued."""
        distinct = list(dict.fromkeys(ids))
        for request_id in distinct:
            if request_id in self._answers:
                yield _result(self._answers[request_id])
        if unknown := [
            checked_id(request_id) for request_id in distinct if request_id not in self._envelopes
        ]:
            raise RequestUnknown(unknown, self._options.client)
        missing = [request_id for request_id in distinct if request_id not in self._answers]
        if missing:
            raise WaitTimeout(missing, timeout or 0.0)

    def close(self) -> None:
        """Do nothing: what was recorded stays."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _envelope(self, request_id: str) -> Envelope:
        if checked_id(request_id) not in self._envelopes:
            raise RequestUnknown([request_id], self._options.client)
        return self._envelopes[request_id]

    def _append(self, packer: Packer) -> None:
        packer.close()
        while packer.unsettled:
            packer.settle([self._take(command) for command in packer.commands()])

    def _take(self, command: Command) -> int | list[int]:
        """Do what the script does with an entry, and return its reply."""
        taken = envelopes(decode_entry(entry_of(command)))
        if used := self._conflicts([one for one in taken if one.idempotency_key is not None]):
            return [CONFLICT, *used]
        for envelope in taken:
            if envelope.id not in self._envelopes:
                self._envelopes[envelope.id] = envelope
                if envelope.id in self._canceled:
                    self._end(canceled(envelope))
                elif self._reply:
                    self.answer(envelope.id, self._reply(msgspec.json.decode(envelope.params)))
        return len(self._envelopes)

    def _conflicts(self, keyed: list[Envelope]) -> list[int]:
        first: dict[str, Envelope] = {}
        for one in keyed:
            first.setdefault(one.id, self._envelopes.get(one.id, one))
        return [at for at, one in enumerate(keyed) if one.params != first[one.id].params]

    def _end(self, answer: Answer) -> Result:
        if answer.id in self._answers:
            raise CarpoolError(f"request {answer.id} has ended already")
        self._answers[answer.id] = answer
        return _result(answer)


def _enqueued(envelope: Envelope) -> Enqueued:
    return Enqueued(
        id=envelope.id,
        params=msgspec.json.decode(envelope.params),
        callback=None if envelope.callback is None else callbacks.decode(envelope.callback),
        metadata=None if envelope.metadata is None else msgspec.json.decode(envelope.metadata),
        idempotency_key=envelope.idempotency_key,
        headers=envelope.headers,
        priority=envelope.priority,
        max_wait=None if envelope.submit_by is None else (envelope.submit_by - envelope.enqueued_at) / 1_000,
        tags=envelope.tags,
        deadline=None if envelope.deadline is None else envelope.deadline / 1_000,
        deadline_policy=envelope.deadline_policy or DEADLINE_POLICIES[0],
    )


def _result(answer: Answer) -> Result:
    return Result.from_json(to_json(answer))
