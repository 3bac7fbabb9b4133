"""Prompt caching, by a simple rule: the first request with a prefix writes it, and later ones read it.

The prefix is the text of all tools and all blocks of `system` and `messages` up to the last one that has a
`cache_control`.
"""

from hashlib import blake2b
from typing import NamedTuple

from carpool_worker.simulator.params import CHARS_PER_TOKEN, Block, SimulatedParams

MIN_PREFIX_TOKENS = 1_024
TTL_SECONDS = {"5m": 300, "1h": 3_600}


class CacheTokens(NamedTuple):
    """The tokens of a prompt's prefix that were written to the cache (for five minutes or an hour) or read from it."""

    written_5m: int = 0
    written_1h: int = 0
    read: int = 0


NOTHING_CACHED = CacheTokens()


class PrefixCache:
    """Which prefixes are cached, and until when (seconds since the epoch)."""

    def __init__(self) -> None:
        self._valid_until: dict[bytes, float] = {}

    def tokens(self, params: SimulatedParams, now: float) -> CacheTokens:
        """Read or write the request's prefix; most requests have none."""
        blocks = _prefix(params)
        if not blocks:
            return NOTHING_CACHED
        text = "\n".join(block.text for block in blocks)
        ttl = str((blocks[-1].cache_control or {}).get("ttl", "5m"))
        return self._look_up(f"{params.model}\n{text}", len(text) // CHARS_PER_TOKEN, ttl, now)

    def _look_up(self, prefix: str, tokens: int, ttl: str, now: float) -> CacheTokens:
        if tokens < MIN_PREFIX_TOKENS:
            return NOTHING_CACHED
        key = blake2b(prefix.encode(), digest_size=16).digest()
        was_valid_until = self._valid_until.get(key, 0.0)
        self._valid_until[key] = now + TTL_SECONDS.get(ttl, TTL_SECONDS["5m"])
        if was_valid_until > now:
            return CacheTokens(read=tokens)
        return CacheTokens(written_1h=tokens) if ttl == "1h" else CacheTokens(written_5m=tokens)


def _prefix(params: SimulatedParams) -> list[Block]:
    blocks = [Block(text=tool.text(), cache_control=tool.cache_control) for tool in params.tools or ()]
    blocks += _blocks(params.system)
    for turn in params.messages or ():
        blocks += _blocks(turn.content)
    marked = [number for number, block in enumerate(blocks) if block.cache_control]
    return blocks[: marked[-1] + 1] if marked else []


def _blocks(content: str | list[Block]) -> list[Block]:
    return [Block(text=content)] if isinstance(content, str) else content
