"""Carpool's exceptions, all derived from CarpoolError. RequestFailed is in `results`."""

from __future__ import annotations

from collections.abc import Sequence

from carpool.quotas import ReachedQuota


class CarpoolError(Exception):
    """Something went wrong in Carpool.

    After an enqueue, `accepted` has the ids that Redis acknowledged, and `unknown` those that it may or may not have,
    as the connection broke before it replied.
    """

    accepted: Sequence[str] = ()
    unknown: Sequence[str] = ()

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").partition("\n")[0]


class InvalidRequest(CarpoolError, ValueError):
    """A request breaks a rule. `index` is its position in an `enqueue_many`, from 0."""

    def __init__(self, field: str, rule: str, index: int | None = None) -> None:
        super().__init__(field, rule, index)
        self.field = field
        self.rule = rule
        self.index = index

    def __str__(self) -> str:
        place = "" if self.index is None else f"request {self.index}: "
        return f"{place}{self.field}: {self.rule}"


class IdempotencyConflict(InvalidRequest):
    """An idempotency key came with other params than the ones that it was first used with: that request stands.

    `key` is the key, and `request_id` the request that has it.
    """

    def __init__(self, key: str, request_id: str, index: int | None = None) -> None:
        super().__init__(
            "idempotency_key",
            f"{key!r} was used with other params, for request {request_id}: another request needs another key",
            index,
        )
        self.args = key, request_id, index
        self.key = key
        self.request_id = request_id


class InvalidSetting(CarpoolError, ValueError):
    """A setting of the producer or a receiver breaks a rule."""

    def __init__(self, setting: str, rule: str) -> None:
        super().__init__(setting, rule)
        self.setting = setting
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.setting}: {self.rule}"


class SourceFailed(CarpoolError):
    """The iterable given to `enqueue_many` raised; that error is the cause (`__cause__`)."""


class QueueFull(CarpoolError):
    """The inbox accepts no more requests for now; try again when the worker has caught up.

    `quota` says which quota of the client is reached, if it is that: try again when some of its requests have ended. It
    is None if the inbox is full.
    """

    def __init__(self, *arguments: object, quota: ReachedQuota | None = None) -> None:
        super().__init__(*arguments)
        self.quota = quota


class RedisUnavailable(CarpoolError):
    """Redis does not answer, or refuses. `url` is its URL without the password; the message says who named it."""

    def __init__(self, url: str, reason: str, origin: str = "") -> None:
        super().__init__(url, reason, origin)
        self.url = url
        self.reason = reason
        self.origin = origin

    def __str__(self) -> str:
        return f"Redis at {self.url}{self.origin} is unavailable: {self.reason}"


class NotDurable(CarpoolError):
    """Redis did not confirm that requests are on disk; `unknown` has the ids of those that may run all the same."""


class WaitTimeout(CarpoolError, TimeoutError):
    """Not every answer came in time; `outstanding` has the ids without one."""

    def __init__(self, outstanding: Sequence[str], timeout: float) -> None:
        super().__init__(outstanding, timeout)
        self.outstanding = outstanding
        self.timeout = timeout

    def __str__(self) -> str:
        requests = "1 request" if len(self.outstanding) == 1 else f"{len(self.outstanding):,} requests"
        return f"no answer within {self.timeout:g} s for {requests}"


class RequestUnknown(CarpoolError, LookupError):
    """No such request of this client has been enqueued; `ids` has all that are not there.

    It may wait in the quarantine, which an operator looks through: `carpool quarantine`.
    """

    def __init__(self, ids: Sequence[str], client: str) -> None:
        super().__init__(ids, client)
        self.ids = ids
        self.client = client

    def __str__(self) -> str:
        return f"client {self.client} has enqueued no {_named(self.ids)}"


class RequestForgotten(RequestUnknown):
    """The request was enqueued so long ago that it is no longer kept (`requests_retention_days`)."""

    def __str__(self) -> str:
        return f"{_named(self.ids)} is no longer kept: its retention is over (requests_retention_days)"


def _named(ids: Sequence[str]) -> str:
    return f"request {ids[0]}" + (f" (nor {len(ids) - 1:,} others)" if len(ids) > 1 else "")


class InvalidSignature(CarpoolError):
    """A webhook was not signed with this secret, or its headers are malformed or out of date."""


class InvalidAnswer(CarpoolError, ValueError):
    """This does not have the shape of an answer from Carpool."""
