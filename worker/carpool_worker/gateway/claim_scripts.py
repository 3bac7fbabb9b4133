"""Scripts of the calls under way: which request a call stands for, and what becomes of it when the call ends.

A call without an idempotency key is known by its digest alone. Under it there is a sorted set for each gateway, of the
requests whose calls it holds; one of those that nobody waits for, as their connection ended unanswered; and one of
those that were answered. The names of these keys are made here, from the first one's, which has the key prefix.
"""

from __future__ import annotations

import hashlib

LEASE_MILLISECONDS = 30_000
"""A gateway that has not been heard of for so long is dead, and its calls may be adopted."""

ADOPTABLE_SECONDS = 86_400
"""How long a request can be adopted after its call was given up: as long as a batch may take."""

REFETCH_MILLISECONDS = 60_000
"""How long a retry that says that it is one gets an answer that was written already."""

MINUTE = 60_000
"""Milliseconds."""

CLAIM_SCRIPT = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local rate_key, held_key, gateways, base, accepted, alive_channel = unpack(KEYS)
local new, own, digest, marked = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local limit, most_held, client, confirming = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8] == '1'

local due, remaining = 0, -1
if limit > 0 then
  local each = {MINUTE} / limit
  due = math.max(tonumber(redis.call('GET', rate_key) or '0'), now) + each
  if due - now > {MINUTE} + 0.001 then
    return {{'rate', math.ceil(due - now - {MINUTE}), math.ceil(due - each - now)}}
  end
  remaining = math.floor(({MINUTE} + 0.001 - (due - now)) / each)
end

local alive = redis.call('ZRANGE', gateways, 0, -1, 'WITHSCORES')
if most_held > 0 then
  local held = 0
  for i = 1, #alive, 2 do
    if alive[i] == own or alive[i + 1] + {LEASE_MILLISECONDS} > now then
      held = held + tonumber(redis.call('HGET', held_key, alive[i]) or '0')
    end
  end
  if held >= most_held then return {{'held'}} end
end

local id, is_new = new, 1
if digest ~= '' then
  local known = redis.call('GET', base)
  if known and known ~= digest then return {{'other'}} end
  if known then is_new = 0 end
  redis.call('SET', base, digest, 'EX', {ADOPTABLE_SECONDS})
else
  local function taken(key)
    local found = redis.call('ZRANGE', key, 0, 0)[1]
    if found then redis.call('ZREM', key, found) end
    return found
  end
  local found, unsure = taken(base), false
  for i = 1, #alive, 2 do
    local name = alive[i]
    local key = base .. name
    if not found and redis.call('EXISTS', key) == 1 then
      if name ~= own then
        local listens = redis.call('PUBSUB', 'NUMSUB', alive_channel .. name)[2] > 0
        if alive[i + 1] + {LEASE_MILLISECONDS} <= now or (not listens and confirming) then found = taken(key)
        elseif not listens then unsure = true end
      end
      if marked and not confirming then unsure = true end
    end
  end
  if not found and unsure and not confirming then return {{'again'}} end
  if not found and marked then
    local answered = base .. 'answered'
    redis.call('ZREMRANGEBYSCORE', answered, '-inf', now - {REFETCH_MILLISECONDS})
    found = taken(answered)
  end
  if found then id, is_new = found, 0 end
  redis.call('ZADD', base .. own, now, id)
  redis.call('EXPIRE', base .. own, {2 * ADOPTABLE_SECONDS})
end

if limit > 0 then redis.call('SET', rate_key, string.format('%.3f', due), 'PX', math.ceil(due - now) + 1) end
if most_held > 0 then redis.call('HINCRBY', held_key, own, 1) end
if client ~= '' then redis.call('SET', accepted .. id, client, 'EX', {ADOPTABLE_SECONDS}) end
return {{'claimed', id, is_new, remaining, math.ceil(due - now)}}
"""
"""KEYS: the key's rate, its held calls, the gateways, the digest's calls (or what is known of the idempotency key's
request), the prefixes of accepted requests and of gateways' channels. ARGV: a new id, this gateway, the digest of a
call with an idempotency key (else ''), whether it says that it is a retry, requests a minute and held calls allowed (0:
any number), the client if it is to be known as the request's (else ''), and whether this is the second time that the
call asks.

Returns 'claimed', the id, whether it is new, and how many requests are left of the minute until when (milliseconds);
or 'rate' and the milliseconds to wait, 'held', or 'other': that idempotency key came with another body. 'again': a
gateway with such a call seems dead, as its connection is gone, or this is a retry of a call whose end has not been
noticed yet. Its connection to Redis may just have been cut, so the caller asks again a little later."""

END_SCRIPT = f"""
local base, held_key, own, id, how, counted = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if counted == '1' then redis.call('HINCRBY', held_key, own, -1) end
if how == 'dropped' then
  redis.call('DEL', KEYS[3])
  if ARGV[5] == '1' then redis.call('DEL', base) else redis.call('ZREM', base .. own, id) end
elseif how ~= 'keyed' and redis.call('ZREM', base .. own, id) == 1 then
  if how == 'answered' then
    local time = redis.call('TIME')
    redis.call('ZADD', base .. how, time[1] * 1000 + math.floor(time[2] / 1000), id)
    redis.call('PEXPIRE', base .. how, {REFETCH_MILLISECONDS})
  else
    redis.call('ZADD', base, 0, id)
    redis.call('EXPIRE', base, {ADOPTABLE_SECONDS})
  end
end
return 1
"""
"""KEYS: the digest's calls, the key's held calls, what is known of the request as accepted. ARGV: this gateway, the
request's id, how the call ended ('answered', 'orphaned', 'dropped': nothing was enqueued, or 'keyed': of one with an
idempotency key nothing is left), whether it was counted as held, and whether it has such a key. Orphans are taken in
the order of their ids, which is that of their age."""

SCRIPTS = (CLAIM_SCRIPT, END_SCRIPT)


def sha_of(script: str) -> str:
    """Return the name that Redis gives to a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
