"""The script by which producers append to the inbox: one atomic step, which keeps the counter and the limits.

It is a part of the contract in `contract`.
"""

from __future__ import annotations

import hashlib

APPEND_SCRIPT = """
local queued = tonumber(redis.call('GET', KEYS[2]) or '0')
local limit = tonumber(ARGV[2])
if limit > 0 and queued + tonumber(ARGV[1]) > limit then
  return -1
end
if (queued >= 1000 or #ARGV[4] >= 100000) and redis.call('TIME')[2] % 100000 < #ARGV[4] then
  local memory = redis.pcall('INFO', 'memory')
  if type(memory) == 'string' then
    local used, most = string.match(memory, 'used_memory:(%d+)'), string.match(memory, 'maxmemory:(%d+)')
    if used and most and tonumber(most) > 0 and tonumber(used) > 0.9 * tonumber(most) then
      return -2
    end
  end
end
redis.call('XADD', KEYS[1], '*', ARGV[3], ARGV[4])
return redis.call('INCRBY', KEYS[2], ARGV[1])
"""
"""KEYS: a shard's stream and counter. ARGV: requests in the entry, the most that the shard may hold (0: any number),
ENTRY_FIELD, the packed entry.
Returns the requests now queued or, if nothing was appended, -1: the shard is full; or -2: nine tenths of Redis' memory
are used. The last tenth is for the worker, which could never empty the inbox without memory for its messages and locks.
INFO takes longer than the append itself, so it is asked once for each 100 kB that are appended, at random: an entry of
that size always asks, and a small one as often as its share of it (the microseconds of Redis' clock are the dice).
Where the user may not run INFO, nothing is reserved."""

SCRIPT_SHA = hashlib.sha1(APPEND_SCRIPT.encode(), usedforsecurity=False).hexdigest()

OUT_OF_MEMORY = -2
"""The reply when what is left of Redis' memory is reserved for the worker."""
