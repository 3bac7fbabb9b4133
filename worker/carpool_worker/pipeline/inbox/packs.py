"""Reads inbox entries into packs: requests that share their terms, with their params packed as they are stored.

An entry of version 2 is a pack as it comes: its segment is unpacked to be checked, and stored byte for byte. Entries of
version 1, and small packs, such as those of single enqueues, are packed again, many requests together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from carpool import entries
from carpool.contract import ENTRY_FIELD, OLD_ENTRY_FIELD, Entry, Envelope, decode_entry, decode_old_entry
from carpool.request_ids import ID_BYTES
from carpool.segments import pack, spans
from carpool_worker.pipeline.inbox.checks import UNREADABLE, check, check_terms
from carpool_worker.policies.accounts import DEFAULT, Accounts, account_of

SMALL = 20
"""Packs with fewer requests are packed again, with others of the same terms. From 20 on a segment takes hardly more
room, and no more time, than one of 200."""


@dataclass(slots=True)
class Pack:
    """Some requests that share their terms; `segment` has their params in the same order (None: not packed yet)."""

    envelopes: list[Envelope]
    segment: bytes | None = None

    @property
    def params_bytes(self) -> int:
        """Bytes of the params, unpacked."""
        return sum(len(one.params) for one in self.envelopes)

    def packed(self) -> bytes:
        """Return the segment."""
        return pack([one.params for one in self.envelopes]) if self.segment is None else self.segment

    def keeping(self, kept: Sequence[Envelope]) -> Pack:
        """Return a pack with those of its requests that are kept, in their order."""
        return self if len(kept) == len(self.envelopes) else Pack(list(kept))


def read(fields: Mapping[bytes, bytes]) -> list[Pack]:
    """Return the packs of an inbox entry, checked.

    Raises:
        ValueError, RecursionError, MemoryError: it can't be read, or would do harm; see checks.UNREADABLE.
    """
    if packed := fields.get(ENTRY_FIELD):
        return [_read_entry(decode_entry(packed))]
    if packed := fields.get(OLD_ENTRY_FIELD):
        envelopes = decode_old_entry(packed)
        check(envelopes)
        return [Pack(list(alike)) for alike in _by_terms(envelopes).values()]
    raise ValueError("it has no field that this version knows")


def clients(fields: Mapping[bytes, bytes]) -> set[str]:
    """Return the clients that an entry names, even if its contents can't be read; raises what `read` raises."""
    if packed := fields.get(ENTRY_FIELD):
        return {decode_entry(packed).client}
    return {envelope.client for envelope in decode_old_entry(fields.get(OLD_ENTRY_FIELD, b""))}


def ids(fields: Mapping[bytes, bytes]) -> set[str]:
    """Return the ids that an entry names, even if its contents can't be read; raises what `read` raises."""
    if packed := fields.get(ENTRY_FIELD):
        return set(_hex_ids(decode_entry(packed).ids))
    return {envelope.id for envelope in decode_old_entry(fields.get(OLD_ENTRY_FIELD, b""))}


def claimed_count(fields: Mapping[bytes, bytes]) -> int:
    """Return how many requests an unreadable entry had added to the counter of the inbox, as far as it can be told."""
    try:
        if packed := fields.get(ENTRY_FIELD):
            return len(decode_entry(packed).ids) // ID_BYTES
        return len(decode_old_entry(fields[OLD_ENTRY_FIELD]))
    except UNREADABLE:
        return 0


def assigned(packs: Sequence[Pack], accounts: Accounts) -> list[Pack]:
    """Return the packs with the account of each: the one that it names, else the one that takes its client and model.

    It is decided here, once: a request stays with its account, however often it is tried.
    """
    return [_assigned(pack, accounts) for pack in packs]


def regrouped(packs: Iterable[Pack], prefixes: Mapping[str, str | None]) -> list[Pack]:
    """Return the packs, with the requests of small ones that share their terms put together, and large ones divided.

    Those that share a prompt follow each other, as far as whole packs allow: a batch may end between any two.
    `prefixes` names the prompt of each request, by its id.
    """

    def prompt(envelope: Envelope) -> str:
        return prefixes[envelope.id] or ""

    large: list[Pack] = []
    small: list[Envelope] = []
    for one in packs:
        if len(one.envelopes) < SMALL:
            small += one.envelopes
        else:
            large += _divided(one.envelopes) if one.segment is None else [one]
    alike = _by_terms(sorted(small, key=prompt))
    packed_again = [one for envelopes in alike.values() for one in _divided(envelopes)]
    return sorted(large + packed_again, key=lambda pack: prompt(pack.envelopes[0]))


def _divided(envelopes: list[Envelope]) -> list[Pack]:
    return [Pack(envelopes[span]) for span in spans([len(one.params) for one in envelopes])]


def _read_entry(entry: Entry) -> Pack:
    check_terms(entry)
    envelopes = entries.envelopes(entry)
    check(envelopes, terms_are_checked=True)
    return Pack(envelopes, entry.params)


def _assigned(pack: Pack, accounts: Accounts) -> Pack:
    first = pack.envelopes[0]
    named = account_of(accounts, first.client, first.model) if first.account is None else first.account
    account = None if named == DEFAULT else named
    if account == first.account:
        return pack
    return Pack([replace(one, account=account) for one in pack.envelopes], pack.segment)


def _hex_ids(ids: bytes) -> list[str]:
    digits = ids.hex()
    return [digits[start : start + 32] for start in range(0, len(digits), 32)]


def _by_terms(envelopes: Iterable[Envelope]) -> dict[tuple[object, ...], list[Envelope]]:
    alike: defaultdict[tuple[object, ...], list[Envelope]] = defaultdict(list)
    for one in envelopes:
        headers = tuple(sorted(one.headers.items())) if one.headers else ()
        terms = (one.client, one.model, headers, one.callback, one.reply_to, one.account, one.gateway_key)
        alike[terms].append(one)
    return alike
