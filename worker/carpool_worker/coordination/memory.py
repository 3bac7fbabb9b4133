"""Redis' memory, for scripts that put answers into Redis: how much is left, and how much one key takes.

Redis refuses every write once `maxmemory` is reached, the inbox, beat and all services alike. So what may pile up there
because somebody does not read it stops earlier, and no key of that kind gets more than its share.
"""

from __future__ import annotations

ANSWERS_SHARE = 0.8
"""Of Redis' memory: beyond this no answer is put into Redis. Producers may append until nine tenths are used."""

KEY_SHARE = 0.1
"""Of Redis' memory: what one queue or list may take while others wait for room."""

MEMORY_FUNCTIONS = """
local function memory()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return 0, 0 end
  local used, most = string.match(info, 'used_memory:(%d+)'), string.match(info, 'maxmemory:(%d+)')
  return tonumber(used or 0), tonumber(most or 0)
end
local function size_of(key)
  local size = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', '20')
  return type(size) == 'number' and size or 0
end
"""
"""Lua: `memory()` returns the bytes used and the most that may be, 0 where there is no limit or it can't be asked;
`size_of(key)` returns the bytes of a key, by a sample of its items, or 0 where it can't be asked."""
