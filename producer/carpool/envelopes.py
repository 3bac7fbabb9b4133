"""Makes checked Envelopes from the arguments of an enqueue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Any, TypedDict

import msgspec
from msgspec.structs import replace

from carpool import callbacks, tracing
from carpool.callbacks import Callback
from carpool.contract import CLIENT_NAME, MAX_PRIORITY, MAX_WAIT, Envelope, batch_headers, mint_id
from carpool.encoding import encode
from carpool.exceptions import InvalidRequest, InvalidSetting
from carpool.params import check_params

MAX_METADATA_BYTES = 16_384
MAX_KEY_LENGTH = 256
HEADER_VALUE = re.compile(r"[!-+\--~]{1,256}")
"""Visible ASCII without the comma, which separates the values of one header (RFC 9110, section 5.6.1)."""

MAX_BETAS_LENGTH = 1_000
"""Characters of all betas together: servers limit the length of a header, and databases that of a lane's name."""

Params = Mapping[str, Any]


class EnqueueOptions(TypedDict, total=False):
    """The keywords of an enqueue; those of an `enqueue_many` are the defaults of all its requests."""

    callback: Callback | None
    """Where the answer goes: a Webhook, a Task, or None, which keeps it for `wait`."""
    metadata: Any
    """Any JSON value of at most 16,384 bytes; it comes back with the answer."""
    betas: Sequence[str]
    """Values of the `anthropic-beta` header. Only requests with the same headers share a batch."""
    user_profile_id: str | None
    """The `anthropic-user-profile-id` header: on whose behalf the requests are made."""
    workspace_id: str | None
    """The `anthropic-workspace-id` header, for API keys that can act on several workspaces."""
    priority: int
    """From -100 to 100, by default 0. While the account's queue at Anthropic is full, the batches with the highest
    priority go first; low ones may wait for as long as higher ones keep coming. A batch has the highest priority of
    its requests."""
    max_wait: float | None
    """Seconds, at most 30 days: this long after the enqueue at the latest, the request is sent, if Anthropic accepts it
    then. Its batch is sealed early, however few requests share it, and ignores `submit_windows`. It does not
    override a paused lane, a full queue at Anthropic, a back-off or a budget, and never makes a batch wait longer."""
    trace: str | None
    """A W3C traceparent that is passed on to the callback: as a header of a webhook, or of a task's message. By default
    it is that of OpenTelemetry's current span, if the service uses OpenTelemetry."""


class Request(msgspec.Struct, frozen=True):
    """One request of an `enqueue_many`, with options of its own; None stands for the call's default."""

    params: Params
    callback: Callback | None = None
    metadata: Any = None
    idempotency_key: str | None = None
    betas: Sequence[str] | None = None
    priority: int | None = None
    max_wait: float | None = None


class CheckedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one call, checked and encoded once for all its requests; `check_options` makes them."""

    client: str
    allow_http: bool
    callback: bytes | None  # JSON
    metadata: bytes | None  # JSON
    headers: dict[str, str]
    user_profile_id: str | None
    workspace_id: str | None
    priority: int
    max_wait: int | None  # milliseconds
    trace: str | None

    def envelope(self, request: Request | Params) -> Envelope:
        """Return the Envelope of one request, whose own options override these; raises InvalidRequest."""
        if not isinstance(request, Request):
            return self._envelope(request, None)
        key = None if request.idempotency_key is None else _checked_key(request.idempotency_key)
        return self._overridden_by(request)._envelope(request.params, key)

    def _envelope(self, params: Params, key: str | None) -> Envelope:
        body, now = check_params(params), time_ns() // 1_000_000
        return Envelope(
            id=mint_id(self.client, key),
            client=self.client,
            model=params["model"],
            params=body,
            headers=self.headers,
            callback=self.callback,
            metadata=self.metadata,
            idempotency_key=key,
            enqueued_at=now,
            priority=self.priority,
            submit_by=None if self.max_wait is None else now + self.max_wait,
            trace=self.trace,
        )

    def _overridden_by(self, request: Request) -> CheckedOptions:
        own: dict[str, Any] = {}
        if request.callback is not None:
            own["callback"] = callbacks.encode(request.callback, allow_http=self.allow_http)
        if request.metadata is not None:
            own["metadata"] = encode("metadata", request.metadata, MAX_METADATA_BYTES)
        if request.betas is not None:
            own["headers"] = _headers(request.betas, self.user_profile_id, self.workspace_id)
        if request.priority is not None:
            own["priority"] = _checked_priority(request.priority)
        if request.max_wait is not None:
            own["max_wait"] = _checked_wait(request.max_wait)
        return replace(self, **own) if own else self


def check_options(client: str, options: EnqueueOptions, *, allow_http: bool = False) -> CheckedOptions:
    """Check and encode the options of a call.

    Raises:
        InvalidRequest: an option breaks a rule; it names the option and the rule.
        TypeError: there is no such option.
    """
    if unknown := options.keys() - EnqueueOptions.__optional_keys__:
        raise TypeError(f"got an unexpected keyword argument {min(unknown)!r}")
    callback, metadata, trace = options.get("callback"), options.get("metadata"), options.get("trace")
    profile, workspace = options.get("user_profile_id"), options.get("workspace_id")
    max_wait = options.get("max_wait")
    return CheckedOptions(
        client=client,
        allow_http=allow_http,
        callback=None if callback is None else callbacks.encode(callback, allow_http=allow_http),
        metadata=None if metadata is None else encode("metadata", metadata, MAX_METADATA_BYTES),
        headers=_headers(options.get("betas", ()), profile, workspace),
        user_profile_id=profile,
        workspace_id=workspace,
        priority=_checked_priority(options.get("priority", 0)),
        max_wait=None if max_wait is None else _checked_wait(max_wait),
        trace=tracing.current() if trace is None else _checked_trace(trace),
    )


def check_client(name: object) -> str:
    """Return the name of a client; raises InvalidSetting if it doesn't match CLIENT_NAME."""
    if not isinstance(name, str) or not CLIENT_NAME.fullmatch(name):
        raise InvalidSetting("client", "must be 1 to 64 letters, digits, dots, dashes or underscores")
    return name


def _headers(betas: Sequence[str], user_profile_id: str | None, workspace_id: str | None) -> dict[str, str]:
    if isinstance(betas, str) or not isinstance(betas, Sequence):
        raise InvalidRequest("betas", "must be a list of strings")
    for at, beta in enumerate(betas):
        _check_header(f"betas[{at}]", beta)
    if sum(map(len, betas)) + len(betas) > MAX_BETAS_LENGTH:
        raise InvalidRequest("betas", f"must have {MAX_BETAS_LENGTH:,} characters at most, commas included")
    for field, value in (("user_profile_id", user_profile_id), ("workspace_id", workspace_id)):
        if value is not None:
            _check_header(field, value)
    return batch_headers(betas, user_profile_id, workspace_id)


def _check_header(field: str, value: object) -> None:
    if not isinstance(value, str) or not HEADER_VALUE.fullmatch(value):
        raise InvalidRequest(field, "must be visible ASCII without spaces or commas")


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise InvalidRequest("idempotency_key", f"must be 1 to {MAX_KEY_LENGTH} printable characters")
    return key


def _checked_trace(trace: object) -> str:
    if not isinstance(trace, str) or not tracing.TRACEPARENT.fullmatch(trace):
        raise InvalidRequest("trace", "must be a W3C traceparent, 00-…")
    return trace


def _checked_priority(priority: object) -> int:
    if type(priority) is not int or abs(priority) > MAX_PRIORITY:
        raise InvalidRequest("priority", f"must be an integer from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    return priority


def _checked_wait(seconds: object) -> int:
    """Return `max_wait` in milliseconds; raises InvalidRequest."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_WAIT:
        raise InvalidRequest("max_wait", f"must be seconds, more than 0 and {MAX_WAIT:,} (30 days) at most")
    return int(seconds * 1_000)
