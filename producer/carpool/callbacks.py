"""Callbacks: where an answer goes, and which callbacks are valid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from carpool.contract import to_json
from carpool.exceptions import InvalidRequest

MAX_URL_LENGTH = 2048
"""Bytes of UTF-8: URLs are keys in a database, whose length is limited."""

TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,254}")
"""Names of Celery tasks and queues: dotted identifiers, with the dashes and colons that queue names have."""

LOOPBACK: Final = "loopback"
ANYWHERE: Final = True

AllowHttp = bool | Literal["loopback"]
"""Where webhooks without TLS may go: anywhere, nowhere, or to this machine only."""

OWN_NAMES = ("carpool.", "carpool:")
"""Prefixes of Carpool's own tasks, queues and Redis keys, which no callback may name."""


class Webhook(msgspec.Struct, frozen=True, cache_hash=True, tag_field="kind", tag="webhook"):
    """The answer is posted to `url`, signed as Standard Webhooks 1.0.0 specifies; see `carpool.webhooks.verify`."""

    url: str


class Task(msgspec.Struct, frozen=True, cache_hash=True, tag_field="kind", tag="task"):
    """The answer is the one argument of the Celery task `name`, sent to `queue` on the broker that Carpool uses."""

    name: str
    queue: str = "celery"


Callback = Webhook | Task

decode = msgspec.json.Decoder(Callback).decode
"""Read a callback from an Envelope's JSON."""


def encode(callback: Callback | Mapping[str, Any], *, allow_http: AllowHttp = False) -> bytes:
    """Return a callback as JSON, after checking it; a mapping such as {"kind": "webhook", "url": …} will do.

    `allow_http` allows webhooks without TLS (LOOPBACK: those to this machine). Raises InvalidRequest, naming the field
    and the rule.
    """
    try:
        return _encode(callback if isinstance(callback, Callback) else _from_mapping(callback), allow_http)
    except TypeError:  # not hashable, so not a string
        raise InvalidRequest("callback", "must contain strings only") from None


def _from_mapping(callback: object) -> Callback:
    try:
        converted: Callback = msgspec.convert(callback, Callback)
    except msgspec.ValidationError as error:
        raise InvalidRequest("callback", f"must be a Webhook or a Task: {error}") from None
    return converted


@lru_cache(maxsize=4096)
def _encode(callback: Callback, allow_http: AllowHttp) -> bytes:
    if isinstance(callback, Webhook):
        _check_url(callback.url, allow_http)
    else:
        _check_name("callback.name", callback.name)
        _check_name("callback.queue", callback.queue)
    return to_json(callback)


def _check_url(url: object, allow_http: AllowHttp) -> None:
    rule = _broken_rule(url, allow_http) if isinstance(url, str) else "must be a string"
    if rule:
        raise InvalidRequest("callback.url", rule)


def _broken_rule(url: str, allow_http: AllowHttp) -> str | None:
    if not url.isprintable() or " " in url:
        return "must not contain spaces or control characters"
    if len(url.encode()) > MAX_URL_LENGTH:
        return f"must have {MAX_URL_LENGTH:,} bytes at most"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"must be a URL: {error}"
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        return "must be an absolute URL, such as https://example.com/claude"
    if parts.scheme == "http" and not (allow_http is True or (allow_http and _is_here(parts.hostname))):
        return "must be https (allow_http=True or CARPOOL_ALLOW_HTTP=1 allows http)"
    if "@" in parts.netloc:
        return "must not contain a user or a password; deliveries are signed instead"
    return None


def _is_here(host: str) -> bool:
    """Return whether a host is this machine: a loopback address, or a name that always is (RFC 6761, section 6.3)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _check_name(field: str, name: object) -> None:
    if not isinstance(name, str) or not TASK_NAME.fullmatch(name):
        raise InvalidRequest(field, "must be a dotted name, such as 'billing.on_answer'")
    if name.startswith(OWN_NAMES):
        raise InvalidRequest(field, "must not be one of Carpool's own, which begin with 'carpool'")
