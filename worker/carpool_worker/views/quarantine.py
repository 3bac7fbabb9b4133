"""The quarantine: inbox entries that no worker could read, each with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import redis

from carpool_worker.pipeline.inbox import quarantine
from carpool_worker.pipeline.inbox.quarantine import QuarantinedEntry
from carpool_worker.views.encoding import Moment


@dataclass(frozen=True, kw_only=True)
class EntryView:
    """An entry: when it was quarantined, its size and the reason."""

    id: str
    at: Moment
    bytes: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FieldView:
    """A field of an entry; its value may contain a prompt."""

    name: bytes
    value: bytes


@dataclass(frozen=True, kw_only=True)
class EntryDetails(EntryView):
    """An entry with the clients whose requests it contains, as far as they can be read, and its fields."""

    clients: Sequence[str]
    fields: Sequence[FieldView]


def entries(server: redis.Redis) -> Iterator[EntryView]:
    """Yield the entries, oldest first."""
    return (_view(entry) for entry in quarantine.entries(server))


def find(server: redis.Redis, entry_id: str) -> EntryDetails:
    """Return one entry.

    Raises:
        EntryUnknown: the quarantine has no such entry.
    """
    entry = quarantine.find(server, entry_id)
    return EntryDetails(
        **vars(_view(entry)),
        clients=sorted(entry.clients()),
        fields=[FieldView(name=name, value=value) for name, value in entry.fields.items()],
    )


def _view(entry: QuarantinedEntry) -> EntryView:
    return EntryView(id=entry.id, at=entry.at, bytes=entry.size, reason=entry.reason)
