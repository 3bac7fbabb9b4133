"""Webhooks as in Standard Webhooks 1.0.0: signed posts, no redirects, no private addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import Self

import pycurl

from carpool.webhooks import delivery_body, sign
from carpool_worker.pipeline.delivery.addresses import Resolve, TargetRefused, resolve
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.pipeline.delivery.channels.post import Post, trust
from carpool_worker.pipeline.delivery.channels.targets import Found, Lookups, Target, is_local, parse
from carpool_worker.pipeline.delivery.channels.transfers import TransferFailed, Transfers
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.policies.retry_after import parse_retry_after
from carpool_worker.settings import Settings
from carpool_worker.store.webhook_secrets import ClientSecrets
from carpool_worker.telemetry.traces import delivering

ANSWER_SECONDS = 1.0
"""Waited for the start of an answer's body once its status has come; the status alone decides."""

SWEEP_SECONDS = 0.2
"""Between looks for answers that don't end."""

NO_SECRETS: Mapping[str, Sequence[str]] = {}

UNSIGNED = Sent(Event.DEFERRED, "not sent: set CARPOOL_WEBHOOK_SECRET, webhooks are never sent unsigned")
PLAIN_HTTP = Sent(Event.REFUSED, "not sent: plain http goes only to CARPOOL_WEBHOOK_ALLOWED_NETWORKS")
PRIVATE = Sent(Event.REFUSED, f"not sent: {TargetRefused.__doc__}")
NOT_HERE = Sent(
    Event.REFUSED,
    "not sent: CARPOOL_WEBHOOK_PUBLIC is false, as beside a simulator: "
    "webhooks go to CARPOOL_WEBHOOK_ALLOWED_NETWORKS only",
)
NO_URL = Sent(Event.REFUSED, "not sent: the callback is no http or https URL with a host")


class WebhookChannel:
    """Posts answers to URLs; used as an asynchronous context manager, which owns the connections."""

    def __init__(
        self,
        settings: Settings,
        resolve: Resolve = resolve,
        own_secrets: Mapping[str, Sequence[str]] = NO_SECRETS,
    ) -> None:
        """`own_secrets` are those of clients that have some (store/webhook_secrets.py)."""
        self._settings = settings
        general = [secret.get_secret_value() for secret in settings.webhook_secret]
        self._secrets = ClientSecrets(own_secrets, general)
        self._lookups = Lookups(resolve, settings.webhook_allowed_networks)
        self._options = trust()
        self._idle: list[Post] = []
        self._busy: set[Post] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._transfers = Transfers(self._settings.webhook_concurrency)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sweep:
            self._sweep.cancel()
        self._transfers.close()

    async def send(self, outgoing: Outgoing) -> Sent:
        """Sign and post one answer."""
        secrets = self._secrets.of(outgoing.client)
        if not secrets:
            return UNSIGNED
        body = delivery_body(outgoing.state, outgoing.finished_at, outgoing.answer, outgoing.kind)
        headers = sign(body, outgoing.delivery_id, secrets, datetime.now(UTC))
        try:
            target = parse(outgoing.target)
            target = self._allowed(target)
            with delivering("webhook", outgoing.request_id, outgoing.trace) as traced:
                return await self._post(target, body, headers | traced if traced else headers)
        except ValueError:  # a name that can't be looked up is a UnicodeError, which is one
            return NO_URL
        except TimeoutError:
            return self._late()
        except TargetRefused:
            return self._refusal(target)
        except OSError as error:
            return Sent(Event.FAILED, f"{target.host} has no address: {error.strerror or error}")

    def _allowed(self, target: Target) -> Target:
        """Return the target, which may be public only where the settings say so; raises TargetRefused."""
        if self._settings.webhook_public:
            return target
        if not is_local(target.host):
            raise TargetRefused
        return replace(target, is_public=False)

    def _refusal(self, target: Target) -> Sent:
        if not self._settings.webhook_public:
            return NOT_HERE
        return PRIVATE if target.is_public else PLAIN_HTTP

    async def _post(self, target: Target, body: bytes, headers: Mapping[str, str]) -> Sent:
        seconds = self._settings.webhook_timeout
        found = self._lookups.known(target)
        if found is None:
            start = monotonic()
            async with asyncio.timeout(seconds):
                found = await self._lookups.find(target)
            seconds -= monotonic() - start
        post = self._idle.pop() if self._idle else self._new_post()
        post.prepare(target, found, headers, body, seconds)
        self._busy.add(post)
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._end_slow_answers)
        try:
            failed = await self._transfers.start(post.curl)
            return self._outcome(post, found, failed)
        finally:
            self._transfers.abandon(post.curl)
            post.release(body)
            self._busy.discard(post)
            self._idle.append(post)

    def _outcome(self, post: Post, found: Found, failed: TransferFailed | None) -> Sent:
        if status := post.status:
            found.is_loaded = True
            return Sent(Event.ANSWERED, post.answer, status, _seconds(post.retry_after))
        if post.is_refused:
            raise TargetRefused
        return self._failure(failed)

    def _failure(self, failed: TransferFailed | None) -> Sent:
        if failed is None:
            return Sent(Event.FAILED, "the receiver's answer has no status")
        if failed.code == pycurl.E_OPERATION_TIMEDOUT:
            return self._late()
        if failed.code == pycurl.E_URL_MALFORMAT:
            return NO_URL
        return Sent(Event.FAILED, failed.text)

    def _late(self) -> Sent:
        return Sent(Event.FAILED, f"no answer within {self._settings.webhook_timeout:g} s")

    def _new_post(self) -> Post:
        return Post(
            self._options,
            self._settings.webhook_proxy.get_secret_value(),
            self._settings.webhook_allowed_networks,
            self._transfers.expect_new_socket,
        )

    def _end_slow_answers(self) -> None:
        """End the posts whose answer's head came a while ago, and whose body still comes."""
        moment = monotonic() - ANSWER_SECONDS
        for post in [post for post in self._busy if post.has_answered_before(moment)]:
            self._transfers.abort(post.curl, pycurl.E_OPERATION_TIMEDOUT, "the answer does not end")
        waits = bool(self._busy)
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._end_slow_answers) if waits else None


def _seconds(retry_after: str | None) -> float | None:
    return None if retry_after is None else parse_retry_after(retry_after, datetime.now(UTC))
