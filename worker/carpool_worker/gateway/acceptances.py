"""How a call's request gets into the inbox: its id is claimed, then the request is appended under it.

The steps of many calls go together, and none of them waits for its caller: who hangs up meanwhile leaves the request to
be adopted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from msgspec.structs import replace

from carpool.entries import CheckedRequest
from carpool.exceptions import IdempotencyConflict, QueueFull
from carpool.grouping import GroupedAppend
from carpool.refusals import QuotasUnknown
from carpool_worker.gateway.claims import CallClaims, Claim, Claimant
from carpool_worker.gateway.gathering import settle
from carpool_worker.gateway.quotas import GatewayQuotas

Check = Callable[[Claim, CheckedRequest], Awaitable[Claim]]
"""What is to be found out about a new request before it is appended; returns the claim, raises what it is refused with,
and gives the claim up then."""


class Acceptances:
    """The requests that are on their way into the inbox."""

    def __init__(self, claims: CallClaims, appends: GroupedAppend, quotas: GatewayQuotas) -> None:
        self._claims = claims
        self._appends = appends
        self._quotas = quotas
        self._checking: set[asyncio.Task[None]] = set()

    async def accept(self, claimant: Claimant, request: CheckedRequest, check: Check | None) -> Claim:
        """Return the claim of a request that is in the inbox.

        Raises:
            GatewayError: the key's limits, or what `check` found.
            QueueFull, RedisUnavailable, NotDurable.
        """
        accepted: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        self._claims.claim(claimant, partial(self._claimed, accepted, request, check))
        try:
            return await accepted
        except asyncio.CancelledError:
            if not accepted.cancelled() and not accepted.exception():  # both happened at the same moment
                self._claims.orphaned(accepted.result())
            raise

    def _claimed(
        self,
        accepted: asyncio.Future[Claim],
        request: CheckedRequest,
        check: Check | None,
        claim: Claim | Exception,
    ) -> None:
        if isinstance(claim, Exception):
            settle(accepted, claim)
        elif claim.is_new and check:
            self._go_on(self._check(accepted, request, check, claim))
        else:
            self._append(accepted, request, claim)

    def _go_on(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._checking.add(task)
        task.add_done_callback(self._checking.discard)

    async def _check(
        self, accepted: asyncio.Future[Claim], request: CheckedRequest, check: Check, claim: Claim
    ) -> None:
        try:
            claim = await check(claim, request)
        except Exception as error:
            settle(accepted, error)
        else:
            self._append(accepted, request, claim)

    def _append(self, accepted: asyncio.Future[Claim], request: CheckedRequest, claim: Claim) -> None:
        # The request is always appended, known or not: the tables have each id once.
        if (own := bytes.fromhex(claim.id)) != request.id:
            request = replace(request, id=own)
        self._appends.begin(request).add_done_callback(partial(self._appended, accepted, request, claim))

    def _appended(
        self,
        accepted: asyncio.Future[Claim],
        request: CheckedRequest,
        claim: Claim,
        appended: asyncio.Future[None],
    ) -> None:
        error = None if appended.cancelled() else appended.exception()
        if isinstance(error, QueueFull | QuotasUnknown | IdempotencyConflict):
            self._go_on(self._refused(accepted, request, claim, error))
            return
        if appended.cancelled() or error or accepted.cancelled():
            self._claims.orphaned(claim)
        if appended.cancelled():
            accepted.cancel()
        else:
            settle(accepted, error or claim)

    async def _refused(
        self,
        accepted: asyncio.Future[Claim],
        request: CheckedRequest,
        claim: Claim,
        error: QueueFull | QuotasUnknown | IdempotencyConflict,
    ) -> None:
        """Find out whether a request that was not appended has its place all the same; else its call is refused."""
        try:
            await self._find_place(request, claim, error)
        except (QueueFull, IdempotencyConflict) as refusal:
            # Nothing was enqueued under a new claim: the next equal call is a new one, and is checked as one.
            (self._claims.dropped if claim.is_new else self._claims.orphaned)(claim)
            settle(accepted, refusal)
        except Exception as failure:
            self._claims.orphaned(claim)
            settle(accepted, failure)
        else:
            if accepted.cancelled():
                self._claims.orphaned(claim)
            settle(accepted, claim)

    async def _find_place(
        self, request: CheckedRequest, claim: Claim, error: QueueFull | QuotasUnknown | IdempotencyConflict
    ) -> None:
        try:
            if not isinstance(error, QuotasUnknown):
                raise error
            await self._quotas.append_again(request)
        except QueueFull as full:
            if claim.is_new or not full.quota or not await self._quotas.has_place(claim.id):
                raise
