"""Prefixes: beginnings of prompts, which the API can cache and many requests may share. Pure."""

from __future__ import annotations

from hashlib import sha256

import msgspec

MARK = b'"cache_control"'
"""In JSON this can only be a field: within a text the quotes are escaped."""

DIGITS = 16
"""Hexadecimal digits of a prefix's name."""

SHORTEST = (
    ("claude-opus-4-8", 1_024),
    ("claude-opus-4-7", 2_048),
    ("claude-opus-4-6", 4_096),
    ("claude-opus-4-5", 4_096),
    ("claude-opus-4", 1_024),
    ("claude-sonnet-", 1_024),
    ("claude-opus-", 512),
    ("claude-fable-", 512),
    ("claude-mythos-", 512),
    ("claude-3-5-haiku", 2_048),
    ("claude-3-haiku", 2_048),
)
"""The fewest tokens of a prefix that is cached, by the beginning of the model's name (Anthropic's documentation,
"Prompt caching", cache limitations)."""

SHORTEST_ELSEWHERE = 4_096
"""For models that the list does not name, and Claude Haiku 4.5."""

NOTHING = msgspec.Raw(b"")


class Beginning(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The params that the API reads before the messages, in the order in which it caches them, or that change those.

    `tool_choice` and `thinking` are not among them: they change only what is cached of the messages (Anthropic's
    documentation, "Prompt caching", what invalidates the cache; on `output_config`: "Structured outputs").
    """

    tools: msgspec.Raw = NOTHING
    system: msgspec.Raw = NOTHING
    mcp_servers: msgspec.Raw = NOTHING
    output_config: msgspec.Raw = NOTHING
    output_format: msgspec.Raw = NOTHING

    @property
    def length(self) -> int:
        """The bytes of the tools and the system prompt in JSON."""
        return len(bytes(self.tools)) + len(bytes(self.system))

    def prefix(self, params: bytes) -> str | None:
        """Return a name for this beginning, 16 hex digits, or None if there are no tools and no system prompt.

        A beginning that the client has marked for the cache has another name than the same one unmarked.
        """
        if not self.length:
            return None
        parts = (self.tools, self.system, self.mcp_servers, self.output_config, self.output_format)
        marked = MARK if MARK in params else b""
        return sha256(b"\0".join((marked, *parts))).hexdigest()[:DIGITS]


read = msgspec.json.Decoder(Beginning).decode


def prefix_of(params: bytes) -> str | None:
    """Return the prefix of a request's params, or None if they have none or are not a JSON object."""
    try:
        return read(params).prefix(params)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def shortest(model: str) -> int:
    """Return the fewest tokens of a prefix that a model caches."""
    return next((tokens for start, tokens in SHORTEST if model.startswith(start)), SHORTEST_ELSEWHERE)
