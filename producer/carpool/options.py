"""A producer's settings: its arguments, else the environment, else the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.backoff import NoBackoff

from carpool import running_up
from carpool.callbacks import ANYWHERE, LOOPBACK, AllowHttp
from carpool.durability import MAX_REPLICAS, Durability
from carpool.enqueue_options import EnqueueOptions
from carpool.envelopes import CheckedOptions, check_client, check_options
from carpool.exceptions import InvalidRequest, InvalidSetting, RedisUnavailable
from carpool.key_prefix import check_key_prefix
from carpool.redis_url import check_url, without_secrets
from carpool.reply_list import ReplyList
from carpool.shards import MAX_SHARDS

DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_CLIENT = "default"
DEFAULT_MAX_QUEUED = 1_000_000
"""Requests in the inbox, of all clients together."""

HTTP_ALLOWED: Mapping[str, AllowHttp] = {"1": ANYWHERE, LOOPBACK: LOOPBACK}
"""What CARPOOL_ALLOW_HTTP may say."""

GIVEN = ""
FROM_ENVIRONMENT = " (CARPOOL_REDIS_URL)"
FOUND = " (of the `carpool up` in this folder, which has started once it says Ready)"
NOWHERE = " (the default: CARPOOL_REDIS_URL is not set, and no `carpool up` runs in this folder)"
"""Where the URL of Redis came from, as errors say it."""

SOCKET: dict[str, Any] = {"socket_connect_timeout": 2, "socket_timeout": 10, "max_connections": 10_000}
"""Timeouts are in seconds. An append takes a millisecond; ten seconds leave room for a Redis that rewrites its log.
Each wait has a connection of its own, and redis-py would stop at a hundred."""

ONE_RETRY: Final = (NoBackoff(), 1)
"""Replaces a connection that was closed while idle. An entry appended twice does no harm: its ids are the same."""

NO_RETRY: Final = (NoBackoff(), 0)
"""For reading answers: a read that broke off may have lost some, so they must be asked for again first."""

RECONNECT_SECONDS = 0.5
"""Between attempts to reach a Redis that went away during a wait."""

BLOCK_SECONDS = 5
"""The longest blocking read for answers; less than the socket's timeout."""


@dataclass(frozen=True)
class Options:
    """The checked settings of a producer; `Options.resolve` makes them."""

    url: str
    client: str
    max_queued: int
    allow_http: AllowHttp
    durable: Durability | None = None  # None: Redis' own word is enough
    inbox_shards: int = 1
    key_prefix: str = ""
    knows_quotas: bool = False  # so it refuses to append while Redis has lost them
    pushed: ReplyList = field(default_factory=ReplyList)
    origin: str = ""
    """Where the URL comes from, for errors."""

    @classmethod
    def resolve(
        cls,
        url: str | None,
        client: str | None,
        max_queued: int,
        allow_http: bool,
        durable: bool = False,
        inbox_shards: int | None = None,
        key_prefix: str | None = None,
        durable_replicas: int = 0,
    ) -> Options:
        """Fill in the defaults, and the environment: CARPOOL_REDIS_URL, _CLIENT, _ALLOW_HTTP, _INBOX_SHARDS and
        _KEY_PREFIX. Where neither names a Redis, it is that of the `carpool up` in this folder, if one runs.

        Raises InvalidSetting.
        """
        environment: Mapping[str, str] = os.environ
        origin = GIVEN
        if not url:
            environment, origin = _environment()
            url = environment.get(running_up.REDIS_URL) or DEFAULT_URL
        try:
            check_url(url)
        except ValueError as error:
            raise InvalidSetting("url", f"{error}{origin}") from None
        if type(max_queued) is not int or max_queued < 0:
            raise InvalidSetting("max_queued", "must be an integer of 0 (no limit) or more")
        shards = _checked_shards(
            environment.get("CARPOOL_INBOX_SHARDS") or 1 if inbox_shards is None else inbox_shards
        )
        if 0 < max_queued < shards:
            raise InvalidSetting("max_queued", f"must be 0 (no limit), or at least inbox_shards ({shards})")
        client = check_client(client or os.environ.get("CARPOOL_CLIENT") or DEFAULT_CLIENT)
        allowed = allow_http or HTTP_ALLOWED.get(environment.get("CARPOOL_ALLOW_HTTP", ""), False)
        durability = _checked_durability(durable, durable_replicas)
        prefix = _checked_prefix(
            environment.get("CARPOOL_KEY_PREFIX", "") if key_prefix is None else key_prefix
        )
        return cls(url, client, max_queued, allowed, durability, shards, prefix, origin=origin)

    @property
    def shard_limit(self) -> int:
        """Requests that one shard of the inbox may hold, so that all hold `max_queued` at most; 0: no limit."""
        return self.max_queued // self.inbox_shards

    def check(self, options: EnqueueOptions) -> CheckedOptions:
        """Check and encode the options of a call; raises InvalidRequest and TypeError, as `check_options` does."""
        reply, reply_to = options.get("reply", False), None
        if type(reply) is not bool:
            raise InvalidRequest("reply", "must be True or False")
        if reply:
            reply_to, self.pushed.is_used = self.pushed.name, True
        return check_options(self.client, options, allow_http=self.allow_http, reply_to=reply_to)

    @property
    def shown_url(self) -> str:
        """The URL without user, password and query."""
        return without_secrets(self.url)

    def unavailable(self, error: Exception) -> RedisUnavailable:
        """Return the error to raise for an error of redis-py."""
        return RedisUnavailable(self.shown_url, str(error).removesuffix("."), self.origin)


def _environment() -> tuple[Mapping[str, str], str]:
    """Return the environment, and where it names a Redis; what a `carpool up` in this folder says comes after it."""
    if os.environ.get(running_up.REDIS_URL):
        return os.environ, FROM_ENVIRONMENT
    if (found := running_up.find()) is None:
        return os.environ, NOWHERE
    running_up.announce()
    return {
        **found.environment,
        **os.environ,
        running_up.REDIS_URL: found.environment[running_up.REDIS_URL],
    }, FOUND


def _checked_shards(given: object) -> int:
    if isinstance(given, str) and given.isascii() and given.isdigit():
        given = int(given)
    if type(given) is not int or not 1 <= given <= MAX_SHARDS:
        raise InvalidSetting("inbox_shards", f"must be an integer from 1 to {MAX_SHARDS}")
    return given


def _checked_durability(durable: bool, replicas: int) -> Durability | None:
    if type(replicas) is not int or not 0 <= replicas <= MAX_REPLICAS:
        raise InvalidSetting("durable_replicas", f"must be an integer from 0 to {MAX_REPLICAS}")
    return Durability(replicas) if durable or replicas else None


def _checked_prefix(given: str) -> str:
    try:
        return check_key_prefix(given)
    except ValueError as error:
        raise InvalidSetting("key_prefix", str(error)) from None
