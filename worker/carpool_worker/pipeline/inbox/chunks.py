"""What was read of the inbox: entries, and chunks of them that are stored together."""

from __future__ import annotations

from dataclasses import dataclass, field

from carpool.contract import Cancel, Envelope
from carpool.quotas import subject_of
from carpool_worker.pipeline.inbox.packs import Pack

CHUNK_REQUESTS = 4_000
CHUNK_BYTES = 8_000_000
"""In one transaction: few enough to bound memory, and enough to make its commit cheap."""


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """What was read of an entry: requests, or a cancel command."""

    id: bytes
    packs: list[Pack] = field(default_factory=list)
    cancel: Cancel | None = None
    counted: bytes = b""  # what is in its COUNTED_FIELD

    @property
    def count(self) -> int:
        """How many requests it has."""
        return sum(len(pack.envelopes) for pack in self.packs)

    @property
    def size(self) -> int:
        """The bytes of their params."""
        return sum(pack.params_bytes for pack in self.packs)

    @property
    def owners(self) -> tuple[str, str]:
        """Whose requests they are: their client, and their key of the gateway as quotas have it; "" if they differ."""
        firsts = {(pack.envelopes[0].client, pack.envelopes[0].gateway_key) for pack in self.packs}
        if len(firsts) != 1:
            return "", ""
        [(client, key)] = firsts
        return client, subject_of(key) if key else ""


@dataclass(slots=True)
class Chunk:
    """The requests of some entries, to be stored in one transaction, and the cancel commands among them."""

    entries: list[ReadEntry] = field(default_factory=list)
    count: int = 0  # requests
    size: int = 0  # bytes, unpacked

    def add(self, entry: ReadEntry, size: int) -> None:
        """Add an entry of so many bytes."""
        self.entries.append(entry)
        self.count += entry.count
        self.size += size

    @property
    def packs(self) -> list[Pack]:
        """All requests, in packs."""
        return [pack for entry in self.entries for pack in entry.packs]

    @property
    def cancels(self) -> list[Cancel]:
        """All cancel commands."""
        return [entry.cancel for entry in self.entries if entry.cancel]

    @property
    def envelopes(self) -> list[Envelope]:
        """All requests."""
        return [envelope for pack in self.packs for envelope in pack.envelopes]

    @property
    def full(self) -> bool:
        """Whether it is large enough to be stored."""
        return self.count >= CHUNK_REQUESTS or self.size >= CHUNK_BYTES
