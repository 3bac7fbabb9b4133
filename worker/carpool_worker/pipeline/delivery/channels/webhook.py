"""Webhooks as in Standard Webhooks 1.0.0: signed posts, no redirects, no private addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from carpool.webhooks import delivery_body, sign
from carpool_worker.pipeline.delivery.addresses import PublicOnlyResolver, TargetRefused, socket_factory
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.policies.retry_after import parse_retry_after
from carpool_worker.settings import Settings
from carpool_worker.telemetry.traces import delivering

ANSWER_BYTES = 1_024
"""Read of a receiver's answer; if it sends more, its connection is closed."""

ANSWER_SECONDS = 1.0
"""Waited for the start of an answer's body once its status has come; the status alone decides."""

LARGE_BODY = 1_000_000
"""A body of this many bytes or more is written piece by piece, so that other deliveries proceed meanwhile."""

USER_AGENT = {"user-agent": "carpool"}

UNSIGNED = Sent(Event.DEFERRED, "not sent: set CARPOOL_WEBHOOK_SECRET, webhooks are never sent unsigned")
PLAIN_HTTP = Sent(Event.REFUSED, "not sent: plain http goes only to CARPOOL_WEBHOOK_ALLOWED_NETWORKS")
PRIVATE = Sent(Event.REFUSED, f"not sent: {TargetRefused.__doc__}")
NO_URL = Sent(Event.REFUSED, "not sent: the callback is no http or https URL with a host")


class WebhookChannel:
    """Posts answers to URLs; used as an asynchronous context manager, which owns the connections."""

    def __init__(self, settings: Settings, resolver: AbstractResolver | None = None) -> None:
        self._settings = settings
        self._resolver = resolver
        self._secrets = [secret.get_secret_value() for secret in settings.webhook_secret]

    async def __aenter__(self) -> Self:
        self._sessions = {"https": self._session(public=True), "http": self._session(public=False)}
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    def receiver(self, target: str) -> str:
        """Return the host and port."""
        try:
            return _parsed(target).authority
        except ValueError:
            return ""

    async def send(self, outgoing: Outgoing) -> Sent:
        """Sign and post one answer."""
        if not self._secrets:
            return UNSIGNED
        body = delivery_body(outgoing.state, outgoing.finished_at, outgoing.answer)
        headers = sign(body, outgoing.request_id, self._secrets, datetime.now(UTC)) | USER_AGENT
        try:
            url = _parsed(outgoing.target)
            with delivering("webhook", outgoing.request_id, outgoing.trace) as traced:
                return await self._post(self._sessions[url.scheme], url, body, headers | traced)
        except (KeyError, ValueError, aiohttp.InvalidURL):
            return NO_URL
        except TimeoutError:
            return Sent(Event.FAILED, f"no answer within {self._settings.webhook_timeout:g} s")
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, TargetRefused):
                return PLAIN_HTTP if url.scheme == "http" else PRIVATE
            return Sent(Event.FAILED, str(error))
        except (aiohttp.ClientError, OSError) as error:
            return Sent(Event.FAILED, f"{type(error).__name__}: {error}")

    async def _post(
        self, session: aiohttp.ClientSession, url: URL, body: bytes, headers: Mapping[str, str]
    ) -> Sent:
        data = body if len(body) < LARGE_BODY else BytesIO(body)
        async with session.post(url, data=data, headers=headers, allow_redirects=False) as response:
            retry_after = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
            return Sent(Event.ANSWERED, await _start(response), response.status, retry_after)

    def _session(self, public: bool) -> aiohttp.ClientSession:
        allowed = self._settings.webhook_allowed_networks
        connector = aiohttp.TCPConnector(
            limit=self._settings.webhook_concurrency,
            resolver=PublicOnlyResolver(self._resolver or aiohttp.DefaultResolver(), allowed, public),
            socket_factory=socket_factory(allowed, public),
        )
        timeout = aiohttp.ClientTimeout(total=self._settings.webhook_timeout)
        return aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )


def _parsed(target: str) -> URL:
    """Return the URL with its path as the client wrote it: `%2F` is not `/` to every server.

    Raises:
        ValueError: it is no URL for webhooks.
    """
    if " " in target or not target.isprintable():
        raise ValueError("holds spaces or control characters")
    url = URL(target, encoded=target.isascii())
    if url.user is not None or url.password is not None:
        raise ValueError("holds a user or a password")
    return url


async def _start(response: aiohttp.ClientResponse) -> str:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return (await response.content.read(ANSWER_BYTES)).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError):
        return ""  # the status has come, and it alone decides
