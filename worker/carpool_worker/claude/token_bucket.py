"""How many calls of the Messages API a minute: a bucket of tokens by account, which all processes share in Redis."""

from __future__ import annotations

import redis

MINUTE = 60.0
"""Seconds."""

TAKE_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local each, room, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local taken = math.max(0, math.min(wanted, math.floor((now + room - due) / each + 0.001)))
if taken > 0 then
  due = due + taken * each
  redis.call('SET', KEYS[1], due, 'PX', math.ceil(due - now) + 1)
end
return {taken, math.max(0, math.ceil(due + each - room - now))}
"""
"""The generic cell rate algorithm (ITU-T I.371, appendix A): only the time at which the next call would be due if all
came evenly is kept. Numbers of a reply are whole, so that times are in milliseconds."""


class TokenBucket:
    """Admits `per_minute` calls a minute, of which those of `burst` seconds may come at once after a pause.

    `key` in Redis has when the next call is due.
    """

    def __init__(self, server: redis.Redis, key: str, per_minute: float, burst: float) -> None:
        self._take = server.register_script(TAKE_SCRIPT)
        self._key = key
        self._each = MINUTE / per_minute * 1_000
        self._room = max(self._each, burst * 1_000)

    def take(self, wanted: int) -> tuple[int, float]:
        """Take up to so many tokens; return how many there were, and the seconds until there is another one.

        Raises:
            redis.RedisError: Redis is away; then nobody knows how many there are.
        """
        taken, milliseconds = self._take([self._key], [self._each, self._room, wanted])
        return int(taken), int(milliseconds) / 1_000
