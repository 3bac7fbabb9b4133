"""Claims: which request a call stands for, so that no retry of it is paid for again.

With an idempotency key, client and key determine the request's id. Else a digest of the call leads to the ids of such
calls: one that nobody waits for any longer is adopted, by retries that say so and others alike. A call that is answered
leaves nothing to adopt, so N equal calls that are wanted N times stay N.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from carpool.answers import rfc3339
from carpool.exceptions import RedisUnavailable
from carpool_worker.coordination.keys import GATEWAY_CALLS, GATEWAY_KEYED
from carpool_worker.database import now
from carpool_worker.formatting import counted
from carpool_worker.gateway.claim_scripts import CLAIM_KEYS, CLAIM_SCRIPT, END_KEYS, END_SCRIPT
from carpool_worker.gateway.errors import FULL_RETRY_AFTER, GatewayError, key_reused
from carpool_worker.gateway.gathering import GatheredCommands, SharedScript
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

AGAIN_SECONDS = 1.0
"""How long a gateway has to be back at Redis before it counts as dead; and between two tries to tell Redis of calls
that have ended."""

FAILING_SECONDS = 0.2
"""How long after a failure Redis counts as away, where it must first be told of calls that have ended."""


class Claimant(NamedTuple):
    """What is claimed for: the key, and what tells this call from others of its client."""

    id: str  # of the request, if it is a new one
    key: GatewayKey
    digest: str  # of what equal calls have in common
    is_keyed: bool  # the id was made from an idempotency key
    is_retry: bool  # it says so itself
    is_followed: bool  # its client will ask for the request by its id


class Claim(NamedTuple):
    """A request's id that this gateway holds for a call."""

    id: str
    is_new: bool
    digest: str
    is_keyed: bool
    counted_for: str  # the id of the key that has one more held call; "": it may hold any number
    remaining: int  # of the key's requests a minute; -1: it has no limit
    reset_seconds: float


End = tuple[str, str, str, bool, str, str]
"""The request's id, how its call ended, its digest, whether it was keyed, for which key it was counted, and the name of
its place there if there was no reply to its claim."""

OnClaim = Callable[[Claim | Exception], None]
"""Is called with a claim; or with GatewayError (429, the key has used up its minute, or holds as many calls as it may;
422, its idempotency key came with another body) or RedisUnavailable."""


class CallClaims:
    """The claims of this process."""

    def __init__(self, commands: GatheredCommands, gateway_id: str) -> None:
        self._commands = commands
        self._claim_script = SharedScript(CLAIM_SCRIPT, CLAIM_KEYS, [gateway_id])
        # An equal call that is claimed for in the same moment finds what was given up.
        self._end_script = SharedScript(END_SCRIPT, END_KEYS, [gateway_id], is_first=True)
        self._attempts = count()
        self._untold: list[End] = []
        self._failed: RedisUnavailable | None = None
        self._failed_at = 0.0

    @property
    def has_untold(self) -> bool:
        """Whether calls have ended of which Redis does not know."""
        return bool(self._untold)

    def claim(self, claimant: Claimant, on_claim: OnClaim) -> None:
        """Claim the request that a call stands for: a new one, or the one that an earlier call left behind."""
        if self._untold:
            if self._failed and asyncio.get_running_loop().time() < self._failed_at + FAILING_SECONDS:
                on_claim(self._failed)
                return
            self.tell()  # one of them may be what this call repeats
        self._claim(claimant, on_claim, is_second=False)

    def answered(self, claim: Claim) -> None:
        """End a claim whose answer was handed to the network."""
        self._end(claim, "answered")

    def orphaned(self, claim: Claim) -> None:
        """Give up a claim unanswered: the next equal call adopts the request."""
        self._end(claim, "orphaned")

    def dropped(self, claim: Claim) -> None:
        """End a new claim under which nothing was enqueued: the next equal call is a new one."""
        self._end(claim, "dropped")

    async def given_up(self, claim: Claim) -> None:
        """Do the same as `orphaned`, and return once Redis knows: the caller's retry comes at once."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end(claim, "orphaned", ended)
        await ended

    def _claim(self, claimant: Claimant, on_claim: OnClaim, *, is_second: bool) -> None:
        key = claimant.key
        # The others' place is known by their digest.
        attempt = str(next(self._attempts)) if claimant.is_keyed and key.most_held else ""
        item = (
            claimant.id,
            claimant.digest,
            claimant.is_keyed,
            claimant.is_retry,
            key.id,
            key.requests_a_minute or 0,
            key.most_held or 0,
            key.client if claimant.is_followed or claimant.is_keyed else "",
            is_second,
            attempt,
        )
        self._commands.run_script(
            self._claim_script, item, partial(self._claimed, claimant, attempt, on_claim)
        )

    def _claimed(self, claimant: Claimant, attempt: str, on_claim: OnClaim, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._tell(_end_of_lost(claimant, attempt))
            on_claim(reply)
        elif reply[0] == b"claimed":
            on_claim(_claim_of(claimant, reply))
        elif reply[0] == b"again":
            again = partial(self._claim, claimant, on_claim, is_second=True)
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, again)
        else:
            on_claim(_refusal(claimant.key, reply))

    def _end(self, claim: Claim, how: str, ended: asyncio.Future[None] | None = None) -> None:
        if claim.is_keyed and how != "dropped" and not claim.counted_for:  # Redis knows nothing of it
            if ended:
                ended.set_result(None)
            return
        self._tell((claim.id, how, claim.digest, claim.is_keyed, claim.counted_for, ""), ended)

    def tell(self) -> None:
        """Tell Redis of the calls that ended while it was away; what is claimed for from now on comes after them."""
        untold, self._untold = self._untold, []
        for end in untold:
            self._tell(end)

    def _tell(self, end: End, ended: asyncio.Future[None] | None = None) -> None:
        self._commands.run_script(self._end_script, end, partial(self._told, end, ended))

    def _told(self, end: End, ended: asyncio.Future[None] | None, reply: Any) -> None:
        if isinstance(reply, RedisUnavailable):
            self._note_failure(reply)
            self._untold.append(end)
        else:
            self._failed = None
        if ended and not ended.done():
            ended.set_result(None)

    def _note_failure(self, error: RedisUnavailable) -> None:
        loop = asyncio.get_running_loop()
        if self._failed is None:  # else thousands of calls say the same
            log.warning("calls not given up", reason=error.reason)
        if not self._untold:
            loop.call_later(AGAIN_SECONDS, self.tell)
        self._failed, self._failed_at = error, loop.time()


def calls_of(claim: Claim) -> str:
    """Return the Redis key of what is known of the calls that a claim stands for."""
    return GATEWAY_KEYED + claim.id if claim.is_keyed else f"{GATEWAY_CALLS}{claim.digest}:"


def _end_of_lost(claimant: Claimant, attempt: str) -> End:
    """Return the end of a claim whose reply did not come: it may have been made all the same."""
    key = claimant.key
    counted_for = key.id if key.most_held is not None else ""
    return claimant.id, "lost", claimant.digest, claimant.is_keyed, counted_for, attempt


def _claim_of(claimant: Claimant, reply: Any) -> Claim:
    _, id_, is_new, remaining, reset = reply
    key = claimant.key
    return Claim(
        id_.decode(),
        bool(is_new),
        claimant.digest,
        claimant.is_keyed,
        key.id if key.most_held is not None else "",
        remaining,
        reset / 1_000,
    )


def rate_headers(key: GatewayKey, claim: Claim) -> dict[str, str]:
    """Return the headers that tell how much of the key's minute is left, as Anthropic's API has them."""
    if key.requests_a_minute is None:
        return {}
    return _rate_headers(key.requests_a_minute, claim.remaining, claim.reset_seconds)


def _rate_headers(limit: int, remaining: int, reset_seconds: float) -> dict[str, str]:
    reset = rfc3339(now() + round(reset_seconds * 1_000))
    name = "anthropic-ratelimit-requests"
    return {f"{name}-limit": str(limit), f"{name}-remaining": str(remaining), f"{name}-reset": reset}


def digest_of(client: str, identity: bytes) -> str:
    """Return the digest of a call: `identity` is what it has in common with equal calls of its client."""
    return hashlib.sha256(client.encode() + b"\0" + identity).hexdigest()[:32]


def _refusal(key: GatewayKey, reply: Any) -> GatewayError:
    if reply[0] == b"other":
        return key_reused()
    if reply[0] == b"held":
        message = f"This key may hold {key.most_held:,} calls at a time (most_held)."
        return GatewayError(429, message, retry_after=FULL_RETRY_AFTER)
    return rate_refusal(key, reply[1], reply[2])


def rate_refusal(key: GatewayKey, wait: int, reset: int, size: int = 1) -> GatewayError:
    """Return the error for a key whose minute has no room for so many requests; both times are milliseconds."""
    limit = key.requests_a_minute or 0
    more = f" A batch counts with each of its requests, and this one has {size:,}." if size > 1 else ""
    message = f"This key may make {counted(limit, 'request')} a minute (requests_a_minute).{more}"
    return GatewayError(
        429, message, retry_after=-(-wait // 1_000), headers=_rate_headers(limit, 0, reset / 1_000)
    )
