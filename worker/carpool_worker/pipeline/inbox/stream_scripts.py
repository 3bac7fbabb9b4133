"""Scripts on a shard of the inbox: what a worker has stored is deleted, and a consumer that is done is forgotten."""

from __future__ import annotations

from carpool_worker.coordination.loads import MOVE

ACKNOWLEDGE_SCRIPT = f"""{MOVE}
local gone, counts = 0, redis.call('EXISTS', KEYS[3]) == 1
for i = 2, #ARGV, 7 do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
    gone = gone + tonumber(ARGV[i + 1])
    if counts then
      local owners = {{ARGV[i + 5], ARGV[i + 6]}}
      move(KEYS[3], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4] == '1', owners)
    end
  end
end
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('SET', KEYS[2], 0)
elseif gone > 0 then redis.call('DECRBY', KEYS[2], gone) end
return gone
"""
"""KEYS: a shard's stream and counter, and LOADS. ARGV: GROUP, then for each entry: its id, its number of requests, the
bytes of their params, what its COUNTED_FIELD says (''), whether they are in the tables now, their client, and their key
of the gateway ('', or as `subject_of` has it).
The counter goes down only for entries that this call deleted, so it stays exact even if two workers acknowledge the
same ones; and what waits is moved from the inbox to the tables in the same step, so that no quota has room meanwhile.
What an unreadable entry had added is unknown, so an empty inbox resets the counter."""

CONSUMER_KEPT = 3_600_000
"""Milliseconds after its last read that a consumer without entries is kept: its process ended long ago."""

LEAVE_SCRIPT = f"""
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end
local gone = 0
for _, fields in ipairs(consumers) do
  local one = {{}}
  for i = 1, #fields, 2 do one[fields[i]] = fields[i + 1] end
  if one.pending == 0 and (one.name == ARGV[2] or one.idle > {CONSUMER_KEPT}) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], one.name)
    gone = gone + 1
  end
end
return gone
"""
"""KEYS: a shard's stream. ARGV: GROUP, a consumer. Forgets the consumer, and those of processes that died, but none
that still holds entries: with the consumer Redis would forget that these are pending, and nobody would get them."""
