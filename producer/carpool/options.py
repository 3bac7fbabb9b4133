"""A producer's settings: its arguments, else the environment, else the defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from redis.backoff import NoBackoff

from carpool.envelopes import CheckedOptions, EnqueueOptions, check_client, check_options
from carpool.exceptions import InvalidRequest, InvalidSetting, RedisUnavailable
from carpool.reply_list import ReplyList

DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_CLIENT = "default"
DEFAULT_MAX_QUEUED = 1_000_000
"""Requests in the inbox, of all clients together."""

SCHEMES = ("redis", "rediss", "unix")

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
    allow_http: bool
    durable: bool = False
    pushed: ReplyList = field(default_factory=ReplyList)

    @classmethod
    def resolve(
        cls,
        url: str | None,
        client: str | None,
        max_queued: int,
        allow_http: bool,
        durable: bool = False,
    ) -> Options:
        """Fill in the environment (CARPOOL_REDIS_URL, CARPOOL_CLIENT, CARPOOL_ALLOW_HTTP) and the defaults.

        Raises InvalidSetting.
        """
        url = url or os.environ.get("CARPOOL_REDIS_URL") or DEFAULT_URL
        if urlsplit(url).scheme not in SCHEMES:
            raise InvalidSetting("url", f"must begin with one of {', '.join(SCHEMES)}, then ://")
        if type(max_queued) is not int or max_queued < 0:
            raise InvalidSetting("max_queued", "must be an integer of 0 (no limit) or more")
        client = check_client(client or os.environ.get("CARPOOL_CLIENT") or DEFAULT_CLIENT)
        allow_http = allow_http or os.environ.get("CARPOOL_ALLOW_HTTP") == "1"
        return cls(url=url, client=client, max_queued=max_queued, allow_http=allow_http, durable=durable)

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
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def unavailable(self, error: Exception) -> RedisUnavailable:
        """Return the error to raise for an error of redis-py."""
        return RedisUnavailable(self.shown_url, str(error).removesuffix("."))
