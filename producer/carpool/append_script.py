"""The script by which producers append to the inbox: one atomic step, which keeps the counts and the limits.

It is a part of the contract in `contract`.
"""

from __future__ import annotations

import hashlib
from typing import cast

from carpool.contract import ENTRY_FIELD
from carpool.entries import EntryTerms
from carpool.idempotency import CLAIM_FUNCTIONS, CLAIMS, OLDER_CLAIMS
from carpool.options import Options
from carpool.quotas import ALARMS, LOADS, QUOTA_FUNCTIONS, QUOTAS, UNKNOWN, subject_of
from carpool.shards import inbox_of, queued_of

APPEND_SCRIPT = f"""
local claimed
if ARGV[10] then
  {CLAIM_FUNCTIONS}
  local claims, conflicts = claims_of(KEYS[6], KEYS[7], ARGV[10])
  if conflicts then return conflicts end
  claimed = function() claim(KEYS[6], KEYS[7], claims) end
end
local counted
if ARGV[6] ~= '0' or ARGV[7] == '1' or redis.call('EXISTS', KEYS[3]) == 1 then
  {QUOTA_FUNCTIONS}
  local found = quotas_of(KEYS[3], KEYS[4], ARGV[3], ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1')
  if not found then return {{{UNKNOWN}}} end
  local refused = found[1] and reached(KEYS[4], KEYS[5], found, tonumber(ARGV[1]), tonumber(ARGV[4]))
  if refused then return refused end
  counted = found[1] and function() return count(KEYS[4], found, ARGV[1], ARGV[4]) end
end
local queued = tonumber(redis.call('GET', KEYS[2]) or '0')
local limit = tonumber(ARGV[2])
if limit > 0 and queued + tonumber(ARGV[1]) > limit then
  return -1
end
if (queued >= 1000 or #ARGV[9] >= 100000) and redis.call('TIME')[2] % 100000 < #ARGV[9] then
  local memory = redis.pcall('INFO', 'memory')
  if type(memory) == 'string' then
    local used, most = string.match(memory, 'used_memory:(%d+)'), string.match(memory, 'maxmemory:(%d+)')
    if used and most and tonumber(most) > 0 and tonumber(used) > 0.9 * tonumber(most) then
      return -2
    end
  end
end
if claimed then claimed() end
if counted then
  redis.call('XADD', KEYS[1], '*', ARGV[8], ARGV[9], 'counted', counted())
else
  redis.call('XADD', KEYS[1], '*', ARGV[8], ARGV[9])
end
return redis.call('INCRBY', KEYS[2], ARGV[1])
"""
"""KEYS: a shard's stream and counter, QUOTAS, LOADS, ALARMS and, if there are claims of idempotency keys, CLAIMS and
OLDER_CLAIMS. ARGV: requests in the entry, the most that the shard may
hold (0: any number), the client, the bytes of the params, whose key of the gateway they came with (''; as
`quotas.subject_of` has it), how many requests with it may wait (0: any number), whether the caller knows that there are
quotas, the field, the packed entry, and the claims of those of its requests that have an idempotency key, if any has.
Returns the requests now queued or, if nothing was appended, -1: the shard is full; -2: nine tenths of Redis' memory
are used; or a list: a quota is reached, or what waits is not known (see quotas); or keys were used with other params
(see idempotency). The last tenth is for the worker,
which could never empty the inbox without memory for its messages and locks.
INFO takes longer than the append itself, so it is asked once for each 100 kB that are appended, at random: an entry of
that size always asks, and a small one as often as its share of it (the microseconds of Redis' clock are the dice).
Where the user may not run INFO, nothing is reserved."""

SCRIPT_SHA = hashlib.sha1(APPEND_SCRIPT.encode(), usedforsecurity=False).hexdigest()

OUT_OF_MEMORY = -2
"""The reply when what is left of Redis' memory is reserved for the worker."""

Command = tuple[str | bytes | int | float, ...]


def append_keys(shard: int) -> tuple[str, ...]:
    """Return the script's KEYS for a shard of the inbox."""
    return inbox_of(shard), queued_of(shard), QUOTAS, LOADS, ALARMS


def append_command(
    settings: Options,
    terms: EntryTerms,
    entry: bytes,
    *,
    requests: int,
    size: int,
    shard: int,
    most_queued: int = 0,
    claims: bytes = b"",
) -> Command:
    """Return the Redis command that appends an entry of so many requests, whose params are `size` bytes."""
    keys = append_keys(shard)
    key = "" if terms.gateway_key is None else subject_of(terms.gateway_key)
    limits = (
        *(requests, settings.shard_limit, terms.client, size, key),
        *(most_queued, int(settings.knows_quotas)),
    )
    if not claims:
        return ("EVALSHA", SCRIPT_SHA, len(keys), *keys, *limits, ENTRY_FIELD, entry)
    keys += CLAIMS, OLDER_CLAIMS
    return ("EVALSHA", SCRIPT_SHA, len(keys), *keys, *limits, ENTRY_FIELD, entry, claims)


def entry_of(command: Command) -> bytes:
    """Return the packed entry that a command of `append_command` appends."""
    return cast(bytes, command[command.index(ENTRY_FIELD) + 1])
