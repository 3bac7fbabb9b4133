"""Scripts of the calls under way: which request a call stands for, and what becomes of it when the call ends.

A call without an idempotency key is known by its digest alone. Under it there is a sorted set for each gateway, of the
requests whose calls it holds; one of those that nobody waits for, as their connection ended unanswered; and one of
those that were answered. The names of these keys are made here, from those given, which have the key prefix.
"""

from __future__ import annotations

from carpool_worker.coordination.keys import (
    GATEWAY_ACCEPTED,
    GATEWAY_ALIVE,
    GATEWAY_CALLS,
    GATEWAY_HELD,
    GATEWAY_KEYED,
    GATEWAY_RATE,
    GATEWAYS,
)

LEASE_MILLISECONDS = 30_000
"""A gateway that has not been heard of for so long is dead, and its calls may be adopted."""

ADOPTABLE_SECONDS = 86_400
"""How long a request can be adopted after its call was given up: as long as a batch may take."""

REFETCH_MILLISECONDS = 60_000
"""How long a retry that says that it is one gets an answer that was written already."""

MINUTE = 60_000
"""Milliseconds."""

PLACE_SECONDS = 3_600
"""How long it is known that a call with an idempotency key took one of its key's places: its gateway gives that back
if the reply did not come."""

CLAIM_SCRIPT = f"""
local rates, held_calls, gateways, all_calls, keyed, accepted, alive_channel = unpack(KEYS)
local own = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local alive = redis.call('ZRANGE', gateways, 0, -1, 'WITHSCORES')

local function taken(key)
  local found = redis.call('ZRANGE', key, 0, 0)[1]
  if found then redis.call('ZREM', key, found) end
  return found
end

local function claim(new, digest, is_keyed, marked, key, limit, most_held, client, confirming, attempt)
  local rate_key, held_key = rates .. key, held_calls .. key
  local place = attempt ~= '' and held_key .. ':' .. own .. ':' .. attempt
  local placed = place and redis.call('GET', place)
  if placed then return {{'claimed', new, tonumber(placed), 0, 0}} end

  local due, remaining = 0, -1
  if limit > 0 then
    local each = {MINUTE} / limit
    due = math.max(tonumber(redis.call('GET', rate_key) or '0'), now) + each
    if due - now > {MINUTE} + 0.001 then
      return {{'rate', math.ceil(due - now - {MINUTE}), math.ceil(due - each - now)}}
    end
    remaining = math.floor(({MINUTE} + 0.001 - (due - now)) / each)
  end

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
  if is_keyed then
    local known = redis.call('GET', keyed .. new)
    if known and known ~= digest then return {{'other'}} end
    if known then is_new = 0 end
    redis.call('SET', keyed .. new, digest, 'EX', {ADOPTABLE_SECONDS})
  else
    local base = all_calls .. digest .. ':'
    local before = redis.call('GET', base .. 'for:' .. new)
    if before or redis.call('ZSCORE', base .. own, new) then
      return {{'claimed', before or new, before and 0 or 1, remaining, math.max(math.ceil(due - now), 0)}}
    end
    local found, unsure = taken(base), false
    for i = 1, #alive, 2 do
      local name = alive[i]
      if not found and redis.call('EXISTS', base .. name) == 1 then
        if name ~= own then
          local listens = redis.call('PUBSUB', 'NUMSUB', alive_channel .. name)[2] > 0
          local is_dead = alive[i + 1] + {LEASE_MILLISECONDS} <= now or (not listens and confirming)
          if is_dead then found = taken(base .. name) elseif not listens then unsure = true end
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
    if found then
      id, is_new = found, 0
      redis.call('SET', base .. 'for:' .. new, found, 'PX', {REFETCH_MILLISECONDS})
    end
    redis.call('ZADD', base .. own, now, id)
    redis.call('EXPIRE', base .. own, {2 * ADOPTABLE_SECONDS})
  end

  if limit > 0 then redis.call('SET', rate_key, string.format('%.3f', due), 'PX', math.ceil(due - now) + 1) end
  if most_held > 0 then redis.call('HINCRBY', held_key, own, 1) end
  if place then redis.call('SET', place, is_new, 'EX', {PLACE_SECONDS}) end
  if client ~= '' then redis.call('SET', accepted .. id, client, 'EX', {ADOPTABLE_SECONDS}) end
  return {{'claimed', id, is_new, remaining, math.ceil(due - now)}}
end

local replies = {{}}
for i, call in ipairs(cmsgpack.unpack(ARGV[2])) do replies[i] = claim(unpack(call)) end
return replies
"""
"""KEYS: the prefixes of keys' rates and held calls, the gateways, the prefixes of the calls of a digest, of what is
known of the requests of idempotency keys, of accepted requests and of gateways' channels. ARGV: this gateway, and the
calls, msgpack: for each a new id, its digest, whether it has an idempotency key, whether it says that it is a retry,
its key's id, requests a minute and held calls allowed (0: any number), the client if it is to be known as the
request's (else ''), whether this is the second time that the call asks, and a name for its place among those that its
key may hold (else '').

Returns for each 'claimed', the id, whether it is new, and how many requests are left of the minute until when
(milliseconds); or 'rate' and the milliseconds to wait, 'held', or 'other': that idempotency key came with another body.
'again': a gateway with such a call seems dead, as its connection is gone, or this is a retry of a call whose end has
not been noticed yet. Its connection to Redis may just have been cut, so the caller asks again a little later.

A client of Redis sends a command again when its connection breaks, so a claim that was made already stays as it is."""

CLAIM_KEYS = (
    GATEWAY_RATE,
    GATEWAY_HELD,
    GATEWAYS,
    GATEWAY_CALLS,
    GATEWAY_KEYED,
    GATEWAY_ACCEPTED,
    GATEWAY_ALIVE,
)

END_SCRIPT = f"""
local held_calls, all_calls, keyed, accepted = unpack(KEYS)
local own = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function finish(id, how, digest, is_keyed, key, attempt)
  local base = all_calls .. digest .. ':'
  if how == 'lost' then
    if is_keyed then
      if attempt ~= '' and redis.call('DEL', held_calls .. key .. ':' .. own .. ':' .. attempt) == 1 then
        redis.call('HINCRBY', held_calls .. key, own, -1)
      end
      return 0
    end
    local adopted = redis.call('GET', base .. 'for:' .. id)
    if redis.call('EXISTS', base .. own) == 0 or not redis.call('ZSCORE', base .. own, adopted or id) then return 0 end
    id, how = adopted or id, adopted and 'orphaned' or 'dropped'
  end
  if key ~= '' then redis.call('HINCRBY', held_calls .. key, own, -1) end
  if how == 'dropped' then
    redis.call('DEL', accepted .. id)
    if is_keyed then redis.call('DEL', keyed .. id) else redis.call('ZREM', base .. own, id) end
  elseif not is_keyed and redis.call('ZREM', base .. own, id) == 1 then
    if how == 'answered' then
      redis.call('ZADD', base .. how, now, id)
      redis.call('PEXPIRE', base .. how, {REFETCH_MILLISECONDS})
    else
      redis.call('ZADD', base, 0, id)
      redis.call('EXPIRE', base, {ADOPTABLE_SECONDS})
    end
  end
  return 1
end

local replies = {{}}
for i, call in ipairs(cmsgpack.unpack(ARGV[2])) do replies[i] = finish(unpack(call)) end
return replies
"""
"""KEYS: the prefixes of keys' held calls, of the calls of a digest, of what is known of the requests of idempotency
keys, and of accepted requests. ARGV: this gateway, and the calls, msgpack: for each the request's id, how the call
ended ('answered', 'orphaned', 'dropped': nothing was enqueued; or 'lost': there was no reply to its claim, and the id
is the one that it gave), its digest, whether it has an idempotency key (of one that has, nothing else is left), and
its key's id if it was counted as held (else ''), and the name of the place of one that is lost (else ''). Orphans are
taken in the order of their ids, which is that of their age."""

END_KEYS = (GATEWAY_HELD, GATEWAY_CALLS, GATEWAY_KEYED, GATEWAY_ACCEPTED)
