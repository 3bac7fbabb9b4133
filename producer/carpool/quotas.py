"""Quotas: how many requests of a client, or of a key of the gateway, may wait for their answers, and how many bytes.

What waits is counted in Redis, in the step that lets requests in, so that no two producers can take the same room. The
worker keeps these counts right: it moves what it has stored, takes off what has ended, and counts anew in its tables.
This module is a part of the contract in `contract`.
"""

from __future__ import annotations

from typing import Any

import msgspec

QUOTAS = "carpool:quotas"
"""Hash: by client (or "default", for those without one of their own), the most requests and the most bytes that may
wait, as two numbers, 0: any number. The worker writes it, from its settings."""

LOADS = "carpool:loads"
"""Hash: what waits, by whose it is (a client, or a key of the gateway after a slash) and, after a space, which count:
"i" the requests that are in the inbox or being stored, "ib" the bytes of their params, "s" and "sb" those in the
tables, "m" and "mb" all that were ever moved there from the inbox, "r" how often somebody was refused. Besides, "epoch"
is new each time that the tables were counted, "wanted" is set while they should be, and "generation" is new when Redis
had lost the counts."""

COUNTED_FIELD = b"counted"
"""The field of an inbox entry whose requests are counted: their number, their bytes, after an equals sign the
generation of the counts, and for whom."""

ALARMS = "carpool:alarms"
"""Stream: when tasks should be sent, sooner than beat's next tick; only the newest entries are kept."""

OF_KEYS = "/"
"""Begins the name of what waits with a key of the gateway; no client's name has it."""

REACHED, UNKNOWN = -3, -4
"""What the scripts reply in place of a count: a quota has no room, or what waits is not known."""


class ReachedQuota(msgspec.Struct, frozen=True):
    """A quota that has no room for some requests."""

    owner: str  # "client" or "key"
    name: str  # of the client, or of the key
    what: str  # "requests" or "bytes"
    limit: int
    waiting: int  # when it was asked
    added: int  # by the requests that were refused

    @property
    def room(self) -> int:
        """How much more may wait."""
        return max(0, self.limit - self.waiting)

    @property
    def never_fits(self) -> bool:
        """Whether the requests that were refused are more than may ever wait."""
        return self.added > self.limit

    def __str__(self) -> str:
        unit = "requests" if self.what == "requests" else "bytes of params"
        whose = f"the quota of {self.owner} {self.name}"
        if self.never_fits:
            return f"{whose} is {self.limit:,} {unit} without an answer, and this is {self.added:,}"
        return (
            f"{whose} is reached: {self.limit:,} {unit} may be without an answer, {self.waiting:,} are, "
            f"and {self.added:,} more are too many"
        )


def subject_of(key: str) -> str:
    """Return what the requests that come with a key of the gateway are counted under."""
    return OF_KEYS + key


def reached(reply: object) -> ReachedQuota | None:
    """Return the quota that a script's reply says is reached, if it says so."""
    if not isinstance(reply, list | tuple) or reply[0] != REACHED:
        return None
    fields: list[Any] = list(reply)
    name, what = fields[1].decode(), fields[2].decode()
    owner = "key" if name.startswith(OF_KEYS) else "client"
    return ReachedQuota(owner, name.removeprefix(OF_KEYS), what, *map(int, fields[3:]))


def is_unknown(reply: object) -> bool:
    """Return whether a script's reply says that the tables must be counted first."""
    return isinstance(reply, list | tuple) and reply[0] == UNKNOWN


QUOTA_FUNCTIONS = f"""
local function quotas_of(quotas, loads, client, key, most, strict)
  local found = {{}}
  local said = redis.call('HMGET', quotas, client, 'default')
  local own = said[1] or said[2]
  if own then
    local requests, bytes = string.match(own, '^(%d+) (%d+)$')
    found[1] = {{client, tonumber(requests), tonumber(bytes)}}
  elseif strict and redis.call('EXISTS', quotas) == 0 then
    return nil
  end
  if most > 0 then
    if redis.call('HEXISTS', loads, key .. ' s') == 0 then return nil end
    found[#found + 1] = {{key, most, 0}}
  end
  return found
end

local function want_count(loads, alarms)
  if redis.call('HSETNX', loads, 'wanted', 1) == 1 then
    redis.call('XADD', alarms, 'MAXLEN', '~', 1000, '*', 'task', 'recount', 'ms', 1)
  end
end

local function reached(loads, alarms, found, requests, bytes)
  local function refusal(name, what, limit, waiting, added)
    redis.call('HINCRBY', loads, name .. ' r', 1)
    return {{{REACHED}, name, what, limit, waiting, added}}
  end
  local wanted = {{}}
  for _, quota in ipairs(found) do
    local name = quota[1]
    local counts = redis.call('HMGET', loads, name .. ' i', name .. ' s', name .. ' ib', name .. ' sb')
    for i = 1, 4 do counts[i] = tonumber(counts[i] or '0') end
    wanted[#wanted + 1] = {{name, 'requests', quota[2], counts[1] + counts[2], requests}}
    wanted[#wanted + 1] = {{name, 'bytes', quota[3], counts[3] + counts[4], bytes}}
  end
  for _, one in ipairs(wanted) do  -- what never fits is told first
    if one[3] > 0 and one[5] > one[3] then return refusal(unpack(one)) end
  end
  for _, one in ipairs(wanted) do
    if one[3] > 0 and one[4] + one[5] > one[3] then
      want_count(loads, alarms)
      return refusal(unpack(one))
    end
  end
end

local function count(loads, found, requests, bytes)
  local counted = requests .. ' ' .. bytes .. ' =' .. (redis.call('HGET', loads, 'generation') or '')
  for _, quota in ipairs(found) do
    redis.call('HINCRBY', loads, quota[1] .. ' i', requests)
    redis.call('HINCRBY', loads, quota[1] .. ' ib', bytes)
    counted = counted .. ' ' .. quota[1]
  end
  return counted
end
"""
"""Lua: which quotas limit a client and a key (nil: not known), whether one is reached, and how requests are counted."""
