"""Keys of the gateway: the form of their secrets, and what the holder of one may do. Pure.

A secret is `cr_` and 43 base62 characters: 37 at random, of 220 bits, so that a fast hash protects it as well as a slow
one would, and a check sum of 6, so that a typo is found without asking the database.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from carpool.enqueue_options import DeadlinePolicy
from carpool_worker.policies.budgets import Budget
from carpool_worker.units import Milliseconds

PREFIX = "cr_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_CHARACTERS = 37
CHECK_CHARACTERS = 6
"""A CRC-32 in base62: it finds every change of one character, and every exchange of two neighbours."""

VISIBLE = 8
"""Characters of a secret, after the prefix, that are kept to tell keys apart; the other 29 have 172 bits."""

SECRET = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM_CHARACTERS + CHECK_CHARACTERS}}}")


class Scope(StrEnum):
    """What a key is for."""

    MESSAGES = "messages"
    """Single requests, their answers, and the counting of tokens."""
    BATCHES = "batches"
    """Batches of its own."""
    USAGE = "usage"
    """Its own usage and limits."""
    CALLBACKS = "callbacks"
    """Answers may go to a webhook or a task."""
    ADMIN = "admin"
    """Everybody's usage, and the keys without this scope and the next three."""
    LOOK = "look"
    """An operator's view of all clients, without prompts and answers."""
    ACT = "act"
    """What operators do: cancel, retry, pause."""
    REVEAL = "reveal"
    """Prompts and answers of all clients."""


OPERATORS = frozenset({Scope.ADMIN, Scope.LOOK, Scope.ACT, Scope.REVEAL})
"""Scopes beyond a client's own requests: only the command line gives them."""


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key of the gateway and what its holder may do. Its secrets are not in it."""

    id: str
    name: str  # unique among all keys, for good: usage has it
    client: str
    hint: str  # the first VISIBLE characters of its newest secret, without the prefix
    scopes: frozenset[Scope]
    models: tuple[str, ...]  # patterns; (): every model
    requests_a_minute: int | None
    most_queued: int | None  # requests that are accepted, and not answered yet
    most_held: int | None  # connections that wait for an answer
    budget: Budget | None
    lowest_priority: int
    highest_priority: int
    callback_hosts: tuple[str, ...]  # patterns; (): every public host
    workspaces: bool  # may choose Anthropic's workspace
    deadline: int | None  # seconds, of requests that name none
    deadline_policy: DeadlinePolicy | None  # what that may cost, where they don't say
    created_at: Milliseconds
    expires_at: Milliseconds | None  # as given, or by its first use
    expires_after: Milliseconds | None  # from its first use
    first_used_at: Milliseconds | None
    last_used_at: Milliseconds | None
    revoked_at: Milliseconds | None

    def has(self, scope: Scope) -> bool:
        """Return whether it is for this."""
        return scope in self.scopes

    @property
    def is_operators(self) -> bool:
        """Whether it reaches beyond its client's own requests."""
        return not self.scopes.isdisjoint(OPERATORS)

    def allows_model(self, model: str) -> bool:
        """Return whether its requests may use this model."""
        return not self.models or matches(self.models, model)

    def allows_callback(self, host: str) -> bool:
        """Return whether answers may go to a webhook at this host."""
        return not self.callback_hosts or matches(self.callback_hosts, host.lower().rstrip("."))

    def clamp(self, priority: int) -> int:
        """Return the priority that it has which is closest to this one."""
        return max(self.lowest_priority, min(self.highest_priority, priority))

    def is_valid(self, at: Milliseconds) -> bool:
        """Return whether it is neither revoked nor expired at that time."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def new_secret() -> str:
    """Return a new secret."""
    random = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return f"{PREFIX}{random}{check_sum(random)}"


def is_well_formed(secret: str) -> bool:
    """Return whether this can be a secret: its form and its check sum are right."""
    if not SECRET.fullmatch(secret):
        return False
    random, check = secret[len(PREFIX) : -CHECK_CHARACTERS], secret[-CHECK_CHARACTERS:]
    return secrets.compare_digest(check, check_sum(random))


def check_sum(random: str) -> str:
    """Return the check sum of the random part of a secret."""
    number, digits = zlib.crc32(f"{PREFIX}{random}".encode()), ""
    for _ in range(CHECK_CHARACTERS):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def hash_of(secret: str) -> str:
    """Return the SHA-256 of a secret, 64 hex digits: all of it that is stored, besides what is visible.

    Keys are looked up by it, and no secret is compared with another: how long a look-up takes tells something of the
    hash at most, which nobody can choose without knowing the secret.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def hint_of(secret: str) -> str:
    """Return the visible characters of a secret."""
    return secret[len(PREFIX) :][:VISIBLE]


def matches(patterns: Iterable[str], text: str) -> bool:
    """Return whether the text matches one of these patterns, in which `*` stands for any characters, also none."""
    return any(_compiled(pattern).fullmatch(text) for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
