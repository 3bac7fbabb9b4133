"""Room for a batch of a client's that is being stored: reserved in Redis before its transaction commits.

So it is counted with what comes through the inbox, and neither takes the other's room. A reservation ends with the
transaction; if this process dies, it ends by itself, and the next count of the tables has what was committed.
"""

from __future__ import annotations

import uuid
from typing import Any

import redis

from carpool.exceptions import QueueFull
from carpool.quotas import ALARMS, LOADS, QUOTA_FUNCTIONS, QUOTAS, UNKNOWN, is_unknown, reached, subject_of
from carpool.refusals import QuotasUnknown
from carpool_worker.coordination.keys import GATEWAY_RATE, RESERVED
from carpool_worker.coordination.loads import MOVE
from carpool_worker.gateway.claims import rate_refusal
from carpool_worker.gateway.errors import GatewayError
from carpool_worker.gateway.quotas import GatewayQuotas
from carpool_worker.pipeline.batching.client_batches import Created
from carpool_worker.pipeline.batching.spooled_creates import SpooledCreate
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.policies.quotas import Quotas, quota_of
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

LEASE_MILLISECONDS = 300_000
"""How long a reservation counts: many times what it takes to store a batch."""

MINUTE = 60_000
"""Milliseconds."""

TOO_FAST = -5
"""What RESERVE_SCRIPT returns, with milliseconds to wait and until the minute is unused, if there is no room in it."""

RESERVE_SCRIPT = f"""{QUOTA_FUNCTIONS}
local quotas, loads, alarms, reserved, rate_key = unpack(KEYS)
local token, requests, bytes, client, key = unpack(ARGV)
local most, strict, limit, size = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8]), tonumber(ARGV[9])
if redis.call('HEXISTS', reserved, token) == 1 then return {{1}} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = 0
if limit > 0 then
  local since = math.max(tonumber(redis.call('GET', rate_key) or '0'), now)
  due = since + size * {MINUTE} / limit
  if due - now > {MINUTE} + 0.001 then
    return {{{TOO_FAST}, math.ceil(due - now - {MINUTE}), math.ceil(since - now)}}
  end
end
local found = quotas_of(quotas, loads, client, key, most, strict)
if not found then return {{{UNKNOWN}}} end
local refused = reached(loads, alarms, found, tonumber(requests), tonumber(bytes))
if refused then return refused end
if limit > 0 then redis.call('SET', rate_key, string.format('%.3f', due), 'PX', math.ceil(due - now) + 1) end
local until_then = string.format('%.0f', now + {LEASE_MILLISECONDS})
redis.call('HSET', reserved, token, until_then .. ' ' .. count(loads, found, requests, bytes))
return {{1}}
"""
"""KEYS: QUOTAS, LOADS, ALARMS, RESERVED, the key's rate. ARGV: a name for the reservation, requests that are to wait,
the bytes of their params, the client, the key (as `subject_of` has it), how many requests of it may wait (0: any
number), whether the settings have quotas, its requests a minute (0: any number), and the requests of the batch.
Returns a list: 1, or as the append script refuses, or TOO_FAST."""

SETTLE_SCRIPT = f"""{MOVE}
local kept = redis.call('HGET', KEYS[2], ARGV[1]) or ''
redis.call('HDEL', KEYS[2], ARGV[1])
local counted = string.match(kept, '^%d+ (.*)$') or ''
move(KEYS[1], ARGV[2], ARGV[3], counted, ARGV[2] ~= '0', {{ARGV[4], ARGV[5]}})
return 1
"""
"""KEYS: LOADS, RESERVED. ARGV: a reservation's name, the requests that are in the tables now, their bytes, the client,
the key. What had been reserved counts no longer, and what is stored does."""


class BatchRoom:
    """The room that one create of a batch takes; used in the thread that stores it."""

    def __init__(
        self, quotas: GatewayQuotas, settings: Quotas, key: GatewayKey, given: SpooledCreate
    ) -> None:
        self._quotas = quotas
        self._key = key
        self._given = given
        self._requests = given.spooled.size - len(given.checks.errors)
        self._token = uuid.uuid4().hex
        self._owners = key.client, subject_of(key.name)
        self._has_settings = bool(settings)
        self._is_limited = bool(key.most_queued or key.requests_a_minute or quota_of(settings, key.client))
        self._is_reserved = False

    def reserve(self) -> None:
        """Reserve room for the batch, once however often it is called.

        Raises:
            QueueFull: a quota of the client or the key is reached.
            GatewayError: 400, the batch has more requests than the key may make in a minute; 429, than it still may.
            redis.RedisError, QuotasUnknown: Redis is away, or knows nothing of the key.
        """
        if not self._is_limited:
            return
        most = self._key.requests_a_minute
        if most and self._given.spooled.size > most:
            raise GatewayError(400, _too_many_a_minute(self._given.spooled.size, most), should_retry=False)
        reply = self._ask()
        if is_unknown(reply):
            self._quotas.count()
            reply = self._ask()
        if quota := reached(reply):
            raise QueueFull(str(quota), quota=quota)
        if reply[0] == TOO_FAST:
            raise rate_refusal(self._key, reply[1], reply[2], self._given.spooled.size)
        if is_unknown(reply):
            raise QuotasUnknown
        self._is_reserved = True

    def settle(self, created: Created | None) -> None:
        """Count what of it is stored (None: nothing) as that, instead of what was reserved."""
        if not self._is_reserved:
            return
        stored = max(0, self._requests - len(created.filled.refused)) if created and created.is_new else 0
        size = self._given.checks.size if stored else 0
        keys, arguments = (LOADS, RESERVED), (self._token, stored, size, *self._owners)
        try:
            self._quotas.server.register_script(SETTLE_SCRIPT)(keys=keys, args=arguments)
        except redis.RedisError as error:  # it ends by itself, and what is stored is in the tables
            log.warning("room of a batch not settled", error=type(error).__name__)

    def _ask(self) -> Any:
        key = self._key
        arguments = (
            *(self._token, self._requests, self._given.checks.size, *self._owners),
            *(key.most_queued or 0, int(self._has_settings)),
            *(key.requests_a_minute or 0, self._given.spooled.size),
        )
        keys = (QUOTAS, LOADS, ALARMS, RESERVED, GATEWAY_RATE + key.id)
        return self._quotas.server.register_script(RESERVE_SCRIPT)(keys=keys, args=arguments)


def _too_many_a_minute(size: int, most: int) -> str:
    return f"requests: this key may make {most:,} a minute (requests_a_minute), and this batch has {size:,}"
