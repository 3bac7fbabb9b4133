"""Claims: which request a call stands for, so that no retry of it is paid for again.

With an idempotency key, client and key determine the request's id. Else a digest of the call leads to the ids of such
calls: one that nobody waits for any longer is adopted, by retries that say so and others alike. A call that is answered
leaves nothing to adopt, so N equal calls that are wanted N times stay N.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, NamedTuple

import uuid_utils

from carpool.answers import rfc3339
from carpool.contract import mint_id
from carpool.exceptions import RedisUnavailable
from carpool.packer import Command
from carpool_worker.coordination.keys import (
    GATEWAY_ACCEPTED,
    GATEWAY_ALIVE,
    GATEWAY_CALLS,
    GATEWAY_HELD,
    GATEWAY_KEYED,
    GATEWAY_RATE,
    GATEWAYS,
)
from carpool_worker.database import now
from carpool_worker.gateway.claim_scripts import CLAIM_SCRIPT, END_SCRIPT, sha_of
from carpool_worker.gateway.errors import FULL_RETRY_AFTER, GatewayError
from carpool_worker.gateway.gathering import GatheredCommands
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

AGAIN_SECONDS = 1.0
"""How long a gateway has to be back at Redis before it counts as dead."""

CLAIM_SHA, END_SHA = sha_of(CLAIM_SCRIPT), sha_of(END_SCRIPT)


class Claimant(NamedTuple):
    """What is claimed for: the key, and what tells this call from others of its client."""

    key: GatewayKey
    identity: bytes  # what equal calls have in common
    idempotency_key: str | None
    is_retry: bool  # it says so itself
    is_followed: bool  # its client will ask for the request by its id


class Claim(NamedTuple):
    """A request's id that this gateway holds for a call."""

    id: str
    is_new: bool
    calls: str  # the Redis key
    key_id: str
    is_keyed: bool
    is_counted: bool
    remaining: int  # of the key's requests a minute; -1: it has no limit
    reset_seconds: float


class CallClaims:
    """The claims of this process."""

    def __init__(self, commands: GatheredCommands, gateway_id: str) -> None:
        self._commands = commands
        self._gateway_id = gateway_id
        self._ending: set[asyncio.Task[None]] = set()
        self._is_failing = False

    async def claim(self, claimant: Claimant) -> Claim:
        """Return the request that a call stands for: a new one, or the one that an earlier call left behind.

        Raises:
            GatewayError: 429, the key has used up its minute, or holds as many calls as it may; 422, its idempotency
                key came with another body.
            RedisUnavailable.
        """
        reply = await self._commands.run(self._claim_command(claimant))
        if reply[0] == b"again":
            await asyncio.sleep(AGAIN_SECONDS)
            reply = await self._commands.run(self._claim_command(claimant, confirming=True))
        if reply[0] != b"claimed":
            raise _refusal(claimant.key, reply)
        _, id_, is_new, remaining, reset = reply
        key = claimant.key
        is_keyed, is_counted = claimant.idempotency_key is not None, key.most_held is not None
        calls = _calls(claimant)
        return Claim(
            id_.decode(), bool(is_new), calls, key.id, is_keyed, is_counted, int(remaining), reset / 1_000
        )

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
        await self._send_end(claim, "orphaned")

    async def settle(self) -> None:
        """Return once Redis knows of all claims that have ended."""
        while self._ending:
            await asyncio.gather(*self._ending)

    def _end(self, claim: Claim, how: str) -> None:
        task = asyncio.get_running_loop().create_task(self._send_end(claim, how))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _send_end(self, claim: Claim, how: str) -> None:
        if claim.is_keyed and how != "dropped":
            if not claim.is_counted:
                return
            how = "keyed"
        keys = (claim.calls, GATEWAY_HELD + claim.key_id, GATEWAY_ACCEPTED + claim.id)
        arguments = (self._gateway_id, claim.id, how, int(claim.is_counted), int(claim.is_keyed))
        command: Command = ("EVALSHA", END_SHA, len(keys), *keys, *arguments)
        try:
            await self._commands.run(command)
            self._is_failing = False
        except RedisUnavailable as error:  # the claim stays this gateway's; it ends when its process does
            if not self._is_failing:  # else thousands of calls say the same
                log.warning("calls not given up", reason=error.reason)
            self._is_failing = True

    def _claim_command(self, claimant: Claimant, *, confirming: bool = False) -> Command:
        key = claimant.key
        calls = _calls(claimant)
        keys = (
            GATEWAY_RATE + key.id,
            GATEWAY_HELD + key.id,
            GATEWAYS,
            calls,
            GATEWAY_ACCEPTED,
            GATEWAY_ALIVE,
        )
        is_keyed = claimant.idempotency_key is not None
        return (
            *("EVALSHA", CLAIM_SHA, len(keys), *keys),
            _keyed_id(claimant) if is_keyed else uuid_utils.uuid7().hex,
            self._gateway_id,
            _digest(claimant) if is_keyed else "",
            int(claimant.is_retry),
            key.requests_a_minute or 0,
            key.most_held or 0,
            key.client if claimant.is_followed or is_keyed else "",
            int(confirming),
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


def _calls(claimant: Claimant) -> str:
    if claimant.idempotency_key is not None:
        return GATEWAY_KEYED + _keyed_id(claimant)
    return f"{GATEWAY_CALLS}{_digest(claimant)}:"


def _keyed_id(claimant: Claimant) -> str:
    return mint_id(claimant.key.client, claimant.idempotency_key)


def _digest(claimant: Claimant) -> str:
    return hashlib.sha256(claimant.key.client.encode() + b"\0" + claimant.identity).hexdigest()[:32]


def _refusal(key: GatewayKey, reply: Any) -> GatewayError:
    if reply[0] == b"other":
        return GatewayError(
            422, "Idempotency-Key: this key was used with another request.", should_retry=False
        )
    if reply[0] == b"held":
        message = f"This key may hold {key.most_held:,} calls at a time (most_held)."
        return GatewayError(429, message, retry_after=FULL_RETRY_AFTER)
    limit = key.requests_a_minute or 0
    message = f"This key may make {limit:,} requests a minute (requests_a_minute)."
    return GatewayError(
        429, message, retry_after=-(-reply[1] // 1_000), headers=_rate_headers(limit, 0, reply[2] / 1_000)
    )
