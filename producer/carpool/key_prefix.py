"""A prefix before every key, so that several Carpools can share one database of a Redis.

It is put there as a command is packed, whoever made it: a pipeline, a script, a lock. What Redis replies about keys has
it no longer. Everything else knows the keys by the names in `contract`. A command whose keys this module does not know
is refused, so none reaches Redis without the prefix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.connection import HiredisRespSerializer

KEY_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{0,64}", re.ASCII)
"""Without braces, which say in a cluster what decides a key's node, and without the wildcards of SCAN."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WITHOUT_KEYS = _words(
    "AUTH BGREWRITEAOF CLIENT CLUSTER COMMAND CONFIG DISCARD ECHO EXEC HELLO INFO MULTI PING QUIT ROLE SCRIPT SELECT "
    "SUBSCRIBE TIME UNSUBSCRIBE UNWATCH WAIT WAITAOF"
)
FIRST = _words(
    "EXPIRE GET GETDEL HDEL HGET HGETALL HLEN HMGET HSET INCRBY LINDEX LLEN LPOP LPUSH LRANGE PEXPIRE PTTL RPOP RPUSH "
    "SADD SET SMEMBERS SREM TTL TYPE XACK XADD XAUTOCLAIM XDEL XLEN XPENDING XRANGE XREVRANGE ZADD ZCARD ZRANGE ZREM "
    "ZREMRANGEBYSCORE ZSCORE"
)
SECOND = _words("MEMORY OBJECT XGROUP XINFO")
ALL = _words("DEL EXISTS MGET UNLINK WATCH")
ALL_BUT_LAST = _words("BLPOP BRPOP")
STREAMS = {"XREAD": 1, "XREADGROUP": 4}
"""By command, from where on the word STREAMS comes before its keys, which are as many as the ids after them."""
COUNTED_BEFORE: Final = {"EVAL": 2, "EVALSHA": 2, "EVAL_RO": 2, "EVALSHA_RO": 2, "BLMPOP": 2, "LMPOP": 1}
"""By command, where its number of keys is; they follow it."""

Arguments = Sequence[Any]


def check_key_prefix(prefix: str) -> str:
    """Return the prefix as it is; raises ValueError, naming the rule."""
    if not KEY_PREFIX.fullmatch(prefix):
        raise ValueError("must be up to 64 letters, digits, dots, colons, dashes or underscores")
    return prefix


class PrefixedCommands:
    """Packs commands, the prefix before each of their keys; for redis-py's `command_packer`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._serializer: Any = HiredisRespSerializer()

    def pack(self, *arguments: Any) -> Any:
        """Return the bytes to send, in parts."""
        return self._serializer.pack(*prefixed(self._prefix, arguments))


def prefixed(prefix: str, arguments: Arguments) -> list[Any]:
    """Return a command's arguments with the prefix before its keys.

    Raises ValueError for a command that Carpool does not use: its keys are not known.
    """
    name, *rest = arguments
    words = (name if isinstance(name, str) else bytes(name).decode()).upper().split()
    found = [*words, *rest]
    for at in _places(words[0], found):
        found[at] = _with(prefix, found[at])
    return found


def bare(prefix: str, key: Any) -> Any:
    """Return a key that Redis replied with, without the prefix."""
    return key[len(prefix) :]


def reply_callbacks(prefix: str) -> dict[str, Callable[[Callable[..., Any] | None], Callable[..., Any]]]:
    """Return, by command, what makes of redis-py's own callback for its replies one that removes the prefix."""

    def removing(remove: Callable[[Any], Any]) -> Callable[[Callable[..., Any] | None], Callable[..., Any]]:
        def around(own: Callable[..., Any] | None) -> Callable[..., Any]:
            def read(reply: Any, **options: Any) -> Any:
                return remove(own(reply, **options) if own else reply)

            return read

        return around

    def named(reply: Any) -> Any:
        return [bare(prefix, reply[0]), *reply[1:]] if reply else reply

    def streams(reply: Any) -> Any:
        if isinstance(reply, dict):
            return {bare(prefix, name): entries for name, entries in reply.items()}
        return [named(one) for one in reply or []]

    def scanned(reply: Any) -> Any:
        return reply[0], [bare(prefix, key) for key in reply[1]]

    return {
        "SCAN": removing(scanned),
        **dict.fromkeys(("XREAD", "XREADGROUP"), removing(streams)),
        **dict.fromkeys(("BLPOP", "BRPOP", "LMPOP", "BLMPOP"), removing(named)),
    }


def _places(name: str, arguments: Arguments) -> Sequence[int]:
    end = len(arguments)
    if name in WITHOUT_KEYS:
        return ()
    if name in FIRST:
        return (1,)
    if name in SECOND:
        return range(2, min(3, end))
    if name in ALL:
        return range(1, end)
    if name in ALL_BUT_LAST:
        return range(1, end - 1)
    return _counted_places(name, arguments)


def _counted_places(name: str, arguments: Arguments) -> Sequence[int]:
    if at := COUNTED_BEFORE.get(name):
        return range(at + 1, at + 1 + int(arguments[at]))
    if (streams := STREAMS.get(name)) and (found := _word("STREAMS", arguments, streams)):
        return range(found + 1, found + 1 + (len(arguments) - found) // 2)
    if name == "SCAN" and (found := _word("MATCH", arguments, 2)):
        return (found + 1,)
    raise ValueError(f"with a key prefix, {name} is not sent: which of its arguments are keys is not known")


def _word(word: str, arguments: Arguments, begin: int) -> int | None:
    """Return where a word is; before `begin` there are names of groups and the like, which may be the same."""
    places = range(begin, len(arguments))
    return next((at for at in places if arguments[at] in (word, word.encode())), None)


def _with(prefix: str, key: Any) -> Any:
    return prefix + key if isinstance(key, str) else prefix.encode() + bytes(key)
