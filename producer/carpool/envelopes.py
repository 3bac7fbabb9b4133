"""From the arguments of an enqueue to a checked Envelope; the producers and the Celery door share it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Any, TypedDict

import msgspec

from carpool import callbacks, tracing
from carpool.callbacks import Callback
from carpool.contract import MAX_PRIORITY, MAX_WAIT, Envelope, batch_headers, mint_id
from carpool.encoding import encode
from carpool.exceptions import InvalidRequest, InvalidSetting
from carpool.params import check

MAX_METADATA_BYTES = 16_384
MAX_KEY_LENGTH = 256
CLIENT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
HEADER_VALUE = re.compile(r"[!-+\--~]{1,256}")
"""Visible ASCII without the comma, which separates the values of one header (RFC 9110, section 5.6.1)."""

MAX_BETAS_LENGTH = 1_000
"""Characters of all betas together: servers bound the length of a header, and databases that of a lane's name."""

Params = Mapping[str, Any]


class Common(TypedDict, total=False):
    """What an enqueue can say besides the params; an `enqueue_many` says it for all of its requests."""

    callback: Callback | None
    """Where the answer goes: a Webhook, a Task, or None: it is kept for `wait`."""
    metadata: Any
    """JSON-able, MAX_METADATA_BYTES at most; comes back with the answer."""
    betas: Sequence[str]
    """Values of the `anthropic-beta` header. These headers choose the lane."""
    user_profile_id: str | None
    """On whose behalf the requests are made: the `anthropic-user-profile-id` header."""
    workspace_id: str | None
    """The `anthropic-workspace-id` header, for keys that can act on several workspaces."""
    priority: int
    """From -100 to 100, 0 where nothing is said. Where the account's queue at Anthropic is full, batches of the highest
    priority go first; low ones may wait for as long as higher ones come. A batch has the highest of its requests."""
    max_wait: float | None
    """Seconds, 30 days at most: by so long after the enqueue the request is on its way, if Anthropic takes it then. Its
    batch is sealed early, however few share it, and waits for none of `submit_windows`. It overrules no paused lane, no
    full queue at Anthropic, no back-off and no budget, and it makes no batch wait for longer."""
    trace: str | None
    """A W3C traceparent, which the callback gets too: a webhook as its header, a task among its message's. Without one
    it is that of OpenTelemetry's current span, where the service uses that."""


class Request(msgspec.Struct, frozen=True):
    """One request of an `enqueue_many` with particulars of its own; None takes the call's default."""

    params: Params
    callback: Callback | None = None
    metadata: Any = None
    idempotency_key: str | None = None
    betas: Sequence[str] | None = None
    priority: int | None = None
    max_wait: float | None = None


class Terms(msgspec.Struct, frozen=True):
    """What holds for every request of one call, checked and encoded once; see `terms`."""

    client: str
    allow_http: bool
    callback: bytes | None
    metadata: bytes | None
    headers: dict[str, str]
    user_profile_id: str | None
    workspace_id: str | None
    priority: int
    max_wait: int | None  # milliseconds
    trace: str | None

    def seal(self, request: Request | Params) -> Envelope:
        """Return the Envelope of one request, its particulars before these terms; raises InvalidRequest."""
        callback, metadata, headers, key = self.callback, self.metadata, self.headers, None
        priority, max_wait = self.priority, self.max_wait
        if isinstance(request, Request):
            key = None if request.idempotency_key is None else _checked_key(request.idempotency_key)
            if request.callback is not None:
                callback = callbacks.encode(request.callback, allow_http=self.allow_http)
            if request.metadata is not None:
                metadata = encode("metadata", request.metadata, MAX_METADATA_BYTES)
            if request.betas is not None:
                headers = _headers(request.betas, self.user_profile_id, self.workspace_id)
            if request.priority is not None:
                priority = _checked_priority(request.priority)
            if request.max_wait is not None:
                max_wait = _checked_wait(request.max_wait)
            request = request.params
        body, client, now = check(request), self.client, time_ns() // 1_000_000
        request_id, model = mint_id(client, key), request["model"]
        submit_by = None if max_wait is None else now + max_wait
        urgency, trace = (priority, submit_by), self.trace
        return Envelope(
            request_id, client, model, body, headers, callback, metadata, key, now, *urgency, trace
        )


def terms(
    client: str,
    *,
    callback: Callback | Mapping[str, Any] | None = None,
    metadata: Any = None,
    betas: Sequence[str] = (),
    user_profile_id: str | None = None,
    workspace_id: str | None = None,
    priority: int = 0,
    max_wait: float | None = None,
    trace: str | None = None,
    allow_http: bool = False,
) -> Terms:
    """Check and encode what requests have in common; raises InvalidRequest naming field and rule."""
    return Terms(
        client,
        allow_http,
        None if callback is None else callbacks.encode(callback, allow_http=allow_http),
        None if metadata is None else encode("metadata", metadata, MAX_METADATA_BYTES),
        _headers(betas, user_profile_id, workspace_id),
        user_profile_id,
        workspace_id,
        _checked_priority(priority),
        None if max_wait is None else _checked_wait(max_wait),
        tracing.current() if trace is None else _checked_trace(trace),
    )


def check_client(name: object) -> str:
    """Return the name of a client; raises InvalidSetting unless it matches CLIENT_NAME."""
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
    """Return milliseconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_WAIT:
        raise InvalidRequest("max_wait", f"must be seconds, more than 0 and {MAX_WAIT:,} (30 days) at most")
    return int(seconds * 1_000)
