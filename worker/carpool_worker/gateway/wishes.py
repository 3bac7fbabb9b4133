"""What a call to /v1/messages asks for, read from its headers and its body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from carpool.callbacks import Callback, Task, Webhook
from carpool.contract import BETA_HEADER, USER_PROFILE_HEADER, WORKSPACE_HEADER
from carpool.enqueue_options import EnqueueOptions
from carpool.entries import CheckedRequest
from carpool.envelopes import check_options
from carpool.exceptions import InvalidRequest
from carpool.keywords import checked_key
from carpool.tracing import TRACEPARENT
from carpool_worker.gateway.bodies import read_object
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.claims import Claimant, digest_of
from carpool_worker.gateway.errors import GatewayError
from carpool_worker.gateway.preferences import preferences, wait_of
from carpool_worker.policies.keys import GatewayKey, Scope

TASK_CALLBACK = re.compile("task:(?P<name>[^@]+)(?:@(?P<queue>.+))?")

SEPARATOR = b"\0"


class Manner(NamedTuple):
    """How a call is to be answered."""

    is_streamed: bool
    is_async: bool  # with 202, unless the answer comes within `wait` seconds
    wait: float
    is_replied: bool  # the answer is pushed to this gateway, and not to a callback


@dataclass(frozen=True, slots=True)
class MessageCall:
    """A request that a call makes, checked, and how its answer is to be given."""

    request: CheckedRequest
    claimant: Claimant
    manner: Manner


class CallHeaders(NamedTuple):
    """What the headers of a call say."""

    prefer: Mapping[str, str]
    options: EnqueueOptions
    idempotency_key: str | None


def read_headers(call: Call) -> CallHeaders:
    """Read a call's headers.

    Raises:
        InvalidRequest: one breaks a rule; it names which, and the rule.
        GatewayError: the key may not do this.
    """
    return CallHeaders(preferences(call), read_options(call), read_idempotency_key(call))


def check_call(call: Call, headers: CallHeaders, body: bytes) -> MessageCall:
    """Check a call whose body has been read; raises the same for its params."""
    key, gateway = call.key, call.gateway
    prefer, options, idempotency_key = headers
    params = read_object(body)
    is_streamed = _is_streamed(params)
    _check_model(key, params)
    is_async = "respond-async" in prefer or "callback" in options
    if not is_async:
        options.setdefault("max_wait", gateway.settings.gateway_max_wait)
    checked = check_options(
        key.client,
        options,
        allow_http=gateway.options.allow_http,
        reply_to=None if "callback" in options else gateway.replies.name,
        gateway_key=key.name,
    )
    request = checked.request(params, idempotency_key)
    claimant = Claimant(
        request.id.hex(),
        key,
        digest_of(key.client, _identity(request, is_async)),
        idempotency_key is not None,
        is_marked_retry(call),
        is_async,
    )
    manner = Manner(is_streamed, is_async, wait_of(prefer), "callback" not in options)
    return MessageCall(request, claimant, manner)


def is_marked_retry(call: Call) -> bool:
    """Return whether the caller says that it repeats a call, as the official SDKs do."""
    return _number(call, "x-stainless-retry-count", 0.0) > 0


def read_options(call: Call) -> EnqueueOptions:
    """Return the options that the headers give.

    Raises:
        InvalidRequest: a header breaks a rule.
        GatewayError: the key may not do this.
    """
    headers, key = call.request.headers, call.key
    options: EnqueueOptions = {
        "betas": _betas(call),
        "user_profile_id": headers.get(USER_PROFILE_HEADER),
        "priority": key.clamp(round(_number(call, "X-Carpool-Priority", 0.0))),
    }
    if workspace := headers.get(WORKSPACE_HEADER):
        if not key.workspaces:
            raise GatewayError(403, f"Your API key may not choose a workspace ({WORKSPACE_HEADER}).")
        options["workspace_id"] = workspace
    if callback := _callback(call):
        options["callback"] = callback
    if "X-Carpool-Metadata" in headers:
        options["metadata"] = _metadata(headers["X-Carpool-Metadata"])
    if "X-Carpool-Max-Wait" in headers:
        options["max_wait"] = _number(call, "X-Carpool-Max-Wait", 0.0)
    if "X-Carpool-Deadline" in headers:
        options["deadline"] = _deadline(headers["X-Carpool-Deadline"])
    if "X-Carpool-Deadline-Policy" in headers:
        options["deadline_policy"] = cast(
            Any, headers["X-Carpool-Deadline-Policy"]
        )  # checked with the others
    if key.deadline is not None:
        options.setdefault("deadline", key.deadline)
    if key.deadline_policy is not None:
        options.setdefault("deadline_policy", key.deadline_policy)
    trace = headers.get("traceparent")
    if trace and TRACEPARENT.fullmatch(trace):  # W3C Trace Context, section 2.2.2: any other is ignored
        options["trace"] = trace
    return options


def _betas(call: Call) -> list[str]:
    if BETA_HEADER not in call.request.headers:
        return []
    given = ",".join(call.request.headers.getall(BETA_HEADER))
    return [beta.strip() for beta in given.split(",") if beta.strip()]


def _callback(call: Call) -> Callback | None:
    given = call.request.headers.get("X-Carpool-Callback")
    if given is None:
        return None
    if not call.key.has(Scope.CALLBACKS):
        raise GatewayError(403, "Your API key lacks the scope 'callbacks' (X-Carpool-Callback).")
    if task := TASK_CALLBACK.fullmatch(given):
        return Task(task["name"], task["queue"]) if task["queue"] else Task(task["name"])
    try:
        host = urlsplit(given).hostname or ""
    except ValueError:
        host = ""
    if host and not call.key.allows_callback(host):
        raise GatewayError(403, f"Your API key may not have webhooks sent to {host} (callback_hosts).")
    return Webhook(given)


def _metadata(given: str) -> Any:
    try:
        return msgspec.json.decode(given)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest("X-Carpool-Metadata", f"must be JSON: {error}") from None


def _deadline(given: str) -> Any:
    """Return seconds, or else the text of a time."""
    try:
        return float(given)
    except ValueError:
        return given


def read_idempotency_key(call: Call) -> str | None:
    """Return the idempotency key; raises InvalidRequest for one that can't be."""
    given = call.request.headers.get("Idempotency-Key")
    if given is None:
        return None
    # A string of Structured Fields (RFC 9651), as the draft has it, or plain, as everybody sends it.
    if len(given) >= 2 and given[0] == given[-1] == '"':
        given = given[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    try:
        return checked_key(given)
    except InvalidRequest as error:
        raise InvalidRequest("Idempotency-Key", error.rule) from None


def _number(call: Call, header: str, default: float) -> float:
    given = call.request.headers.get(header)
    if given is None:
        return default
    try:
        number = float(given)
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e9:  # no number, or none that could be meant
        raise InvalidRequest(header, "must be a number")
    return number


def _is_streamed(params: dict[str, Any]) -> bool:
    streamed = params.pop("stream", False)
    if streamed not in (True, False, None):
        raise InvalidRequest("stream", "must be true or false")
    return bool(streamed)


def _check_model(key: GatewayKey, params: dict[str, Any]) -> None:
    model = params.get("model")
    if isinstance(model, str) and not key.allows_model(model):
        raise GatewayError(403, f"Your API key may not use the model {model}.", should_retry=False)


def _identity(request: CheckedRequest, is_async: bool) -> bytes:
    """Return what tells a call from others; with an idempotency key, what it asks of Claude, however it is answered."""
    terms = request.terms
    lane = "\n".join(f"{name}={terms.headers[name]}" for name in sorted(terms.headers)).encode()
    if request.idempotency_key is not None:
        return SEPARATOR.join((lane, request.params))
    kind = b"async" if is_async else b"held"
    return SEPARATOR.join((kind, lane, terms.callback or b"", request.metadata or b"", request.params))
