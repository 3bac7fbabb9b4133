"""Checks and encodes the arguments of an enqueue."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from time import time_ns
from typing import Any

import msgspec
from uuid_utils import uuid7

from carpool import callbacks, misplaced, tracing
from carpool.callbacks import AllowHttp
from carpool.contract import CLIENT_NAME, batch_headers, mint_id
from carpool.encoding import encode
from carpool.enqueue_options import KNOWN_OPTIONS, EnqueueOptions, Params, Request
from carpool.entries import CheckedRequest, EntryTerms
from carpool.exceptions import InvalidRequest, InvalidSetting
from carpool.keywords import (
    CheckedDeadline,
    checked_deadline,
    checked_deadline_policy,
    checked_key,
    checked_priority,
    checked_tags,
    checked_trace,
    checked_wait,
)
from carpool.params import check_params

MAX_METADATA_BYTES = 16_384
HEADER_VALUE = re.compile(r"[!-+\--~]{1,256}")
"""Visible ASCII without the comma, which separates the values of one header (RFC 9110, section 5.6.1)."""

MAX_BETAS_LENGTH = 1_000
"""Characters of all betas together: servers limit the length of a header, and databases that of a lane's name."""

Headers = tuple[tuple[str, str], ...]  # of a batch: names and values, in a form that can be a key


class CheckedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one call, checked and encoded once for all its requests; `check_options` makes them."""

    terms: EntryTerms
    allow_http: AllowHttp
    metadata: bytes | None  # JSON
    user_profile_id: str | None
    workspace_id: str | None
    max_wait: int | None  # milliseconds
    trace: str | None
    tags: tuple[str, ...] = ()
    deadline: CheckedDeadline | None = None
    deadline_policy: str | None = None  # None: the default

    def request(self, params: Params, key: str | None = None) -> CheckedRequest:
        """Return one request that has no options of its own but the key; raises InvalidRequest."""
        key = None if key is None else checked_key(key)
        return self._request(
            params,
            self.terms,
            self.metadata,
            self.max_wait,
            key,
            self.tags,
            self.deadline,
            self.deadline_policy,
        )

    def overridden(self, request: Request) -> CheckedRequest:
        """Return one request, whose own options override these; raises InvalidRequest."""
        wait, metadata, key = request.max_wait, request.metadata, request.idempotency_key
        deadline, policy = request.deadline, request.deadline_policy
        return self._request(
            request.params,
            self._terms(request),
            self.metadata if metadata is None else encode("metadata", metadata, MAX_METADATA_BYTES),
            self.max_wait if wait is None else checked_wait(wait),
            None if key is None else checked_key(key),
            self.tags if request.tags is None else checked_tags(request.tags),
            self.deadline if deadline is None else checked_deadline(deadline),
            self.deadline_policy if policy is None else checked_deadline_policy(policy),
        )

    def _request(
        self,
        params: Params,
        terms: EntryTerms,
        metadata: bytes | None,
        max_wait: int | None,
        key: str | None,
        tags: tuple[str, ...],
        deadline: CheckedDeadline | None,
        deadline_policy: str | None,
    ) -> CheckedRequest:
        body, now = check_params(params), time_ns() // 1_000_000
        id_ = uuid7().bytes if key is None else bytes.fromhex(mint_id(terms.client, key))
        submit_by = None if max_wait is None else now + max_wait
        due = None if deadline is None else deadline.at(now)
        return CheckedRequest(
            terms,
            params["model"],
            id_,
            body,
            now,
            metadata,
            key,
            submit_by,
            self.trace,
            tags,
            due,
            deadline_policy,
        )

    def _terms(self, request: Request) -> EntryTerms:
        callback, betas, priority, shared = request.callback, request.betas, request.priority, self.terms
        if callback is None and betas is None and priority is None:
            return shared
        return _terms(
            shared.client,
            tuple(shared.headers.items())
            if betas is None
            else _headers(betas, self.user_profile_id, self.workspace_id),
            shared.callback if callback is None else callbacks.encode(callback, allow_http=self.allow_http),
            shared.priority if priority is None else checked_priority(priority),
            shared.reply_to,
            shared.gateway_key,
        )


def check_options(
    client: str,
    options: EnqueueOptions,
    *,
    allow_http: AllowHttp = False,
    reply_to: str | None = None,
    gateway_key: str | None = None,
) -> CheckedOptions:
    """Check and encode the options of a call; answers are pushed to the list `reply_to`; see EntryTerms.

    Raises:
        InvalidRequest: an option breaks a rule; it names the option and the rule.
        TypeError: there is no such option.
    """
    if not options.keys() <= KNOWN_OPTIONS:
        raise TypeError(misplaced.unexpected(options, KNOWN_OPTIONS))
    metadata, max_wait, trace = options.get("metadata"), options.get("max_wait"), options.get("trace")
    profile, workspace = options.get("user_profile_id"), options.get("workspace_id")
    betas, tags = options.get("betas", ()), options.get("tags", ())
    deadline, policy = options.get("deadline"), options.get("deadline_policy")
    shared = (
        client,
        allow_http,
        options.get("callback"),
        tuple(betas) if type(betas) is list else betas,
        profile,
        workspace,
        options.get("priority", 0),
        reply_to,
        gateway_key,
    )
    try:
        terms = _checked_terms(*shared)
    except TypeError:  # not hashable
        terms = _checked_terms.__wrapped__(*shared)
    return CheckedOptions(
        terms=terms,
        allow_http=allow_http,
        metadata=None if metadata is None else encode("metadata", metadata, MAX_METADATA_BYTES),
        user_profile_id=profile,
        workspace_id=workspace,
        max_wait=None if max_wait is None else checked_wait(max_wait),
        trace=tracing.current() if trace is None else checked_trace(trace),
        tags=checked_tags(tags) if tags else (),
        deadline=None if deadline is None else checked_deadline(deadline),
        deadline_policy=None if policy is None else checked_deadline_policy(policy),
    )


def check_client(name: object) -> str:
    """Return the name of a client; raises InvalidSetting if it doesn't match CLIENT_NAME."""
    if not isinstance(name, str) or not CLIENT_NAME.fullmatch(name):
        raise InvalidSetting("client", "must be 1 to 64 letters, digits, dots, dashes or underscores")
    return name


@lru_cache(maxsize=4096, typed=True)
def _checked_terms(
    client: str,
    allow_http: AllowHttp,
    callback: Any,
    betas: object,
    user_profile_id: object,
    workspace_id: object,
    priority: object,
    reply_to: str | None,
    gateway_key: str | None,
) -> EntryTerms:
    return _terms(
        client,
        _headers(betas, user_profile_id, workspace_id),
        None if callback is None else callbacks.encode(callback, allow_http=allow_http),
        checked_priority(priority),
        reply_to,
        gateway_key,
    )


@lru_cache(maxsize=4096)
def _terms(
    client: str,
    headers: Headers,
    callback: bytes | None,
    priority: int,
    reply_to: str | None,
    gateway_key: str | None,
) -> EntryTerms:
    """Return the same EntryTerms for the same values, so that they are compared by identity."""
    return EntryTerms(client, dict(headers), callback, priority, reply_to, gateway_key)


def _headers(betas: object, user_profile_id: object, workspace_id: object) -> Headers:
    if isinstance(betas, str) or not isinstance(betas, Sequence):
        raise InvalidRequest("betas", "must be a list of strings")
    names = [_checked_header(f"betas[{at}]", beta) for at, beta in enumerate(betas)]
    if sum(map(len, names)) + len(names) > MAX_BETAS_LENGTH:
        raise InvalidRequest("betas", f"must have {MAX_BETAS_LENGTH:,} characters at most, commas included")
    headers = batch_headers(
        names,
        None if user_profile_id is None else _checked_header("user_profile_id", user_profile_id),
        None if workspace_id is None else _checked_header("workspace_id", workspace_id),
    )
    return tuple(headers.items())


def _checked_header(field: str, value: object) -> str:
    if not isinstance(value, str) or not HEADER_VALUE.fullmatch(value):
        raise InvalidRequest(field, "must be visible ASCII without spaces or commas")
    return value
