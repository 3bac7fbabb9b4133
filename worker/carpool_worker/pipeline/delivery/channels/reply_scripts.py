"""Scripts of the replies: who waits for which request is kept in Redis, and answers are pushed to reply lists.

What nobody takes back is bounded: a wait counts until its deadline, a client has so many waits for a request at most,
and no answer is pushed where Redis, or the list, has no room for it.
"""

from __future__ import annotations

from carpool_worker.coordination.keys import WAITING
from carpool_worker.coordination.memory import ANSWERS_SHARE, KEY_SHARE, MEMORY_FUNCTIONS

WAIT_SECONDS = 120
"""How long a wait counts; producers repeat theirs every minute at least."""

MOST_WAITS = 16
"""Waits of one client for one request, the newest; a producer that asks again and again has more."""

WAITING_TTL = 3_600
"""Seconds that the registry is kept when nobody waits any longer."""

_NOW = "local now = tonumber(redis.call('TIME')[1])"

_FORGET = """
local function forget(id)
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
local function waiters_of(id)
  local known = redis.call('HGET', KEYS[1], id)
  return known and cmsgpack.unpack(known) or {}
end
"""

REGISTER_SCRIPT = f"""{_NOW}{_FORGET}
local client, reply_to, over_at = ARGV[1], ARGV[2], now + {WAIT_SECONDS}
for i = 3, #ARGV do
  local kept, own = {{}}, 0
  local waiters = waiters_of(ARGV[i])
  for n = #waiters, 1, -1 do
    local one = waiters[n]
    local is_same = one[1] == client and one[2] == reply_to
    if (one[3] or over_at) > now and not is_same and not (one[1] == client and own >= {MOST_WAITS - 1}) then
      table.insert(kept, 1, {{one[1], one[2], one[3] or over_at}})
      if one[1] == client then own = own + 1 end
    end
  end
  table.insert(kept, {{client, reply_to, over_at}})
  redis.call('HSET', KEYS[1], ARGV[i], cmsgpack.pack(kept))
  redis.call('ZADD', KEYS[2], over_at, ARGV[i])
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 2 * #ARGV)) do forget(id) end
redis.call('EXPIRE', KEYS[1], {WAITING_TTL})
redis.call('EXPIRE', KEYS[2], {WAITING_TTL})
"""
"""KEYS: WAITING, WAITING_UNTIL. ARGV: client, reply_to, ids. Atomic, as two workers may register the same id at the
same time. Each run forgets more ids whose waits are over than it adds."""

UNREGISTER_SCRIPT = f"""{_FORGET}
local client, reply_to = ARGV[1], ARGV[2]
for i = 3, #ARGV do
  local waiters, kept = waiters_of(ARGV[i]), {{}}
  for _, one in ipairs(waiters) do
    if one[1] ~= client or one[2] ~= reply_to then table.insert(kept, one) end
  end
  if #kept == 0 then forget(ARGV[i])
  elseif #kept < #waiters then redis.call('HSET', KEYS[1], ARGV[i], cmsgpack.pack(kept)) end
end
"""
"""KEYS: WAITING, WAITING_UNTIL. ARGV: client, reply_to, ids: that wait is over."""

_ROOM = f"""{MEMORY_FUNCTIONS}
local used, most = memory()
local room, share, sizes = math.huge, math.huge, {{}}
if most > 0 then room, share = {ANSWERS_SHARE} * most - used, {KEY_SHARE} * most end
local function push(list, item)
  if not sizes[list] then sizes[list] = most > 0 and size_of(list) or 0 end
  if #item > room or (sizes[list] > 0 and sizes[list] + #item > share) then return false end
  redis.call('RPUSH', list, item)
  room, sizes[list] = room - #item, sizes[list] + #item
  return true
end
"""

PUSH_SCRIPT = f"""{_NOW}{_FORGET}{_ROOM}
local prefix = string.sub(KEYS[1], 1, #KEYS[1] - {len(WAITING)})
if room <= 0 then return {{0, (#ARGV - 1) / 3}} end
local pushed, left_out = 0, 0
for i = 2, #ARGV, 3 do
  local waiters, kept = waiters_of(ARGV[i]), {{}}
  for _, one in ipairs(waiters) do
    if one[1] == ARGV[i + 1] and (one[3] or now + 1) > now then
      local list = prefix .. one[2]
      if push(list, ARGV[i + 2]) then
        redis.call('EXPIRE', list, ARGV[1])
        pushed = pushed + 1
      else
        table.insert(kept, one)
        left_out = left_out + 1
      end
    end
  end
  if #kept == 0 then forget(ARGV[i])
  elseif #kept < #waiters then redis.call('HSET', KEYS[1], ARGV[i], cmsgpack.pack(kept)) end
end
return {{pushed, left_out}}
"""
"""KEYS: WAITING, WAITING_UNTIL. ARGV: REPLY_TTL, then id, client and answer of each. Atomic, so that no waiter who
registers meanwhile is dropped unanswered. The lists are named in WAITING as their producers know them: they get the key
prefix that WAITING has. Returns how many answers were pushed, and how many found no room: who waits
for these stays registered, and asks again."""

PUSH_PACKED_SCRIPT = f"""{_ROOM}
local pushed, at = 0, 3
for _, list in ipairs(KEYS) do
  local length, count = redis.call('LLEN', list), tonumber(ARGV[at])
  for i = at + 1, at + count do
    if length >= tonumber(ARGV[2]) or not push(list, ARGV[i]) then break end
    length, pushed = length + 1, pushed + 1
    redis.call('EXPIRE', list, ARGV[1])
  end
  at = at + count + 1
end
return pushed
"""
"""KEYS: reply lists. ARGV: REPLY_TTL, the most items in a list, then for each list the number of its items and the
items. Returns how many items fitted."""
