"""What waits of each client and key, as the doors count it: kept right from the tables, and in step with them.

What Redis counts may be too much for a moment, but never too little, so that no quota is exceeded:

- What is in the inbox is counted by the very steps that append and delete its entries.
- What has ended is taken off only if the tables were not counted since before it ended (`epoch`): else that count has
  it already, or the next one will.
- A count of the tables is added to by what came into them since it began.
- What was counted before Redis lost its counts (of another `generation`) is not taken off those that came after.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec
import redis

from carpool.quotas import ALARMS, LOADS, QUOTA_FUNCTIONS, QUOTAS
from carpool_worker.coordination.keys import RESERVED
from carpool_worker.units import Milliseconds

ADD = """
local function add(loads, field, number)
  if redis.call('HINCRBY', loads, field, number) < 0 then redis.call('HSET', loads, field, 0) end
end
"""

MOVE = f"""{ADD}
local function move(loads, requests, bytes, counted, is_stored, owners)
  local was = {{}}
  local claimed, claimed_bytes, names = string.match(counted, '^(%d+) (%d+)(.*)$')
  local generation, is_counted = redis.call('HGET', loads, 'generation') or '', true
  for name in string.gmatch(names or '', '%S+') do
    if string.sub(name, 1, 1) == '=' then
      is_counted = name == '=' .. generation
    elseif is_counted then
      was[name] = true
      add(loads, name .. ' i', -tonumber(claimed))
      add(loads, name .. ' ib', -tonumber(claimed_bytes))
    end
  end
  if not is_stored then return end
  for _, name in ipairs(owners) do
    if was[name] or redis.call('HEXISTS', loads, name .. ' s') == 1 then
      for _, field in ipairs({{' s', ' m'}}) do
        redis.call('HINCRBY', loads, name .. field, requests)
        redis.call('HINCRBY', loads, name .. field .. 'b', bytes)
      end
    end
  end
end
"""
"""Lua: moves requests, counted as the COUNTED_FIELD says, from the inbox to the tables, or nowhere."""

PUBLISH_SCRIPT = f"""{QUOTA_FUNCTIONS}{ADD}
local quotas, loads, reserved, alarms = unpack(KEYS, 1, 4)
if (redis.call('HGET', loads, 'epoch') or '') ~= ARGV[1] then return 0 end
local given = cjson.decode(ARGV[4])
redis.call('DEL', quotas)
for client, limits in pairs(given.quotas) do redis.call('HSET', quotas, client, limits) end
if not given.is_limited then
  redis.call('DEL', loads, reserved)
  return 1
end
local until_then = redis.call('HGETALL', reserved)
for i = 1, #until_then, 2 do
  local over, requests, bytes, names = string.match(until_then[i + 1], '^(%d+) (%d+) (%d+)(.*)$')
  if tonumber(over) < tonumber(ARGV[3]) then
    redis.call('HDEL', reserved, until_then[i])
    for name in string.gmatch(names, '%S+') do
      add(loads, name .. ' i', -tonumber(requests))
      add(loads, name .. ' ib', -tonumber(bytes))
    end
  end
end
local is_new = redis.call('HSETNX', loads, 'generation', ARGV[2]) == 1
local is_empty = redis.call('HLEN', reserved) == 0
for i = 5, #KEYS do is_empty = is_empty and redis.call('XLEN', KEYS[i]) == 0 end
local counts, kept = given.counts, {{}}
for _, name in ipairs(given.kept) do kept[name] = true end
for _, field in ipairs(redis.call('HKEYS', loads)) do
  local name = string.match(field, '^(%S+) %l+$')
  if name and not counts[name] then counts[name] = {{0, 0, 0, 0}} end
end
for name, count in pairs(counts) do
  local now = redis.call('HMGET', loads, name .. ' i', name .. ' m', name .. ' mb')
  for i = 1, 3 do now[i] = tonumber(now[i] or '0') end
  local requests = count[1] + math.max(0, now[2] - count[3])
  local bytes = count[2] + math.max(0, now[3] - count[4])
  if is_new or is_empty then
    now[1] = 0
    redis.call('HDEL', loads, name .. ' i', name .. ' ib')
  end
  if requests > 0 or kept[name] then
    redis.call('HSET', loads, name .. ' s', requests, name .. ' sb', bytes)
  else
    redis.call('HDEL', loads, name .. ' s', name .. ' sb', name .. ' m', name .. ' mb')
    if now[1] == 0 then redis.call('HDEL', loads, name .. ' i', name .. ' ib', name .. ' r') end
  end
end
redis.call('HSET', loads, 'epoch', ARGV[2], 'counted_at', ARGV[3], 'took', given.took)
redis.call('HDEL', loads, 'wanted')
if is_new then want_count(loads, alarms) end
return 1
"""
"""KEYS: QUOTAS, LOADS, RESERVED, ALARMS, the streams of the inbox: while nothing is in them, nothing counts as in them,
whatever has gone wrong. Where there were no counts, what has come into the tables since this one began is not known, so
another is wanted. ARGV: the epoch that was read before the count ('' if there was none), a new one, the time in
milliseconds since the epoch, and JSON: the quotas, whether anything is limited, and by whose it is what the
tables have, with what had been moved there before the count; and who is kept though nothing of theirs waits.
Returns 0, and changes nothing, if somebody else has published meanwhile."""

RELEASE_SCRIPT = f"""{QUOTA_FUNCTIONS}{ADD}
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  if redis.call('EXISTS', KEYS[1]) == 1 then want_count(KEYS[1], KEYS[2]) end
  return 0
end
for i = 2, #ARGV, 3 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i] .. ' s') == 1 then
    add(KEYS[1], ARGV[i] .. ' s', -tonumber(ARGV[i + 1]))
    add(KEYS[1], ARGV[i] .. ' sb', -tonumber(ARGV[i + 2]))
  end
end
return 1
"""
"""KEYS: LOADS, ALARMS. ARGV: the epoch that was read before the requests ended, then whose they were, how many, and
their bytes. Returns 0 if the tables were counted since: whether they had ended by then can't be told."""

WANT_SCRIPT = f"""{QUOTA_FUNCTIONS}
if redis.call('EXISTS', KEYS[1]) == 1 then want_count(KEYS[1], KEYS[2]) end
"""
"""KEYS: LOADS, ALARMS."""


class Load(NamedTuple):
    """Requests, and the bytes of their params."""

    requests: int = 0
    size: int = 0

    def plus(self, other: Load) -> Load:
        """Return the sum."""
        return Load(self.requests + other.requests, self.size + other.size)


NOTHING = Load()


@dataclass(frozen=True)
class Loads:
    """What the doors count, by whose it is; all empty while nothing is limited."""

    epoch: str = ""
    is_wanted: bool = False
    counted_at: int = 0  # milliseconds since the epoch
    took: int = 0  # milliseconds that the last count of the tables took
    waiting: Mapping[str, Load] = field(default_factory=dict)
    moved: Mapping[str, Load] = field(default_factory=dict)  # into the tables, ever
    refused: Mapping[str, int] = field(default_factory=dict)


def read_loads(server: redis.Redis) -> Loads:
    """Return what the doors count."""
    found: dict[bytes, bytes] = cast("Any", server.hgetall(LOADS))
    numbers: dict[str, dict[str, int]] = {}
    rest: dict[str, str] = {}
    for key, value in found.items():
        name, _, what = key.decode().rpartition(" ")
        if name:
            numbers.setdefault(name, {})[what] = int(value)
        else:
            rest[what] = value.decode()
    return Loads(
        epoch=rest.get("epoch", ""),
        is_wanted="wanted" in rest,
        counted_at=int(rest.get("counted_at", 0)),
        took=int(rest.get("took", 0)),
        waiting={
            name: Load(of.get("i", 0) + of.get("s", 0), of.get("ib", 0) + of.get("sb", 0))
            for name, of in numbers.items()
        },
        moved={name: Load(of.get("m", 0), of.get("mb", 0)) for name, of in numbers.items()},
        refused={name: of["r"] for name, of in numbers.items() if "r" in of},
    )


def publish(
    server: redis.Redis,
    before: Loads,
    counted: Mapping[str, Load],
    quotas: Mapping[str, str],
    kept: Iterable[str],
    *,
    streams: Sequence[str],
    at: Milliseconds,
    took: int,
) -> bool:
    """Set what waits in the tables to a count that began after `before` was read; return False if another was faster.

    `quotas` is what QUOTAS is to have, `kept` who is limited though nothing of theirs waits.
    """
    kept = list(kept)
    given = {
        "quotas": quotas,
        "is_limited": bool(quotas or kept),
        "kept": kept,
        "took": took,
        "counts": {
            name: (*counted.get(name, NOTHING), *before.moved.get(name, NOTHING))
            for name in {*before.moved, *counted, *kept}
        },
    }
    arguments: list[str | int | bytes] = [before.epoch, uuid.uuid4().hex, at, msgspec.json.encode(given)]
    keys = [QUOTAS, LOADS, RESERVED, ALARMS, *streams]
    return bool(server.register_script(PUBLISH_SCRIPT)(keys=keys, args=arguments))


def release(server: redis.Redis, epoch: str, ended: Mapping[str, Load]) -> None:
    """Take off what has ended, after `epoch` was read; or have the tables counted, if it can't be told what has."""
    arguments: list[str | int] = [part for name, load in ended.items() for part in (name, *load)]
    server.register_script(RELEASE_SCRIPT)(keys=[LOADS, ALARMS], args=[epoch, *arguments])


def want_count(server: redis.Redis) -> None:
    """Have the tables counted soon, if anything is limited."""
    server.register_script(WANT_SCRIPT)(keys=[LOADS, ALARMS])
