"""Finds out from the results of a batch at Anthropic whose requests it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from carpool.contract import REQUEST_ID
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.claude.results import in_chunks, read_chunk
from carpool_worker.database import read
from carpool_worker.exceptions import ClaudeError, ResultsCut
from carpool_worker.store.requests import places as requests
from carpool_worker.store.requests.places import Stage

OUR_VERSIONS = "78"
"""Of the UUIDs that are requests' ids: 7, and 8 with an idempotency key. Other programs mostly use version 4."""

READS = 2
"""Of results that lack requests which the batch has, until the next audit reads them again."""

VERSION_AT = 12
"""The digit of an id that is its version."""


@dataclass
class Requests:
    """The requests that a batch's results name."""

    lines: int = 0
    names: set[str] = field(default_factory=set)  # one a request, but for a stranger's, read in part
    unreadable: int = 0  # lines
    ours: Counter[str] = field(
        default_factory=Counter
    )  # that the tables know, by the batch that they belong to
    answered: Counter[str] = field(default_factory=Counter)  # those of them that succeeded, which cost money
    unsent: dict[str, str] = field(default_factory=dict)  # those still to be posted, and their outcomes here
    sent: set[str] = field(default_factory=set)  # batches of ours at Anthropic that have some of them, too
    nameless: int = 0  # that no table knows, though their names are such as Carpool gives

    @property
    def is_strange(self) -> bool:
        """Whether no name is such as Carpool gives."""
        return not self.ours and not self.nameless

    def lacking(self, requests: int | None) -> int:
        """Return how many of a batch's requests (None: not known how many it has) these results don't name."""
        return 0 if self.is_strange else max(0, (requests or 0) - len(self.names))


def read_whole(
    engine: sa.Engine, claude: Claude, remote: RemoteBatch, headers: Mapping[str, str]
) -> Requests | str:
    """Return whose requests a batch at Anthropic has, or why that can't be known.

    A relay may cut results between two lines. What is missing might be posted again where the rest is adopted, so
    nothing is decided by results that name fewer requests than the batch has.
    """
    if remote.processing_status != "ended":
        return f"it is {remote.processing_status}: its results, once it has ended, show whose it is"
    lacking = 0
    for _ in range(READS):
        try:
            found = _read(engine, claude, remote.id, headers)
        except (ClaudeError, ResultsCut) as error:
            return f"its results can't be read: {error}"
        if not (lacking := found.lacking(remote.request_count)):
            return found
    return f"its results lack {lacking:,} of its {remote.request_count:,} requests: audit again"


def _read(engine: sa.Engine, claude: Claude, claude_id: str, headers: Mapping[str, str]) -> Requests:
    """Read the results in chunks; those of a stranger only as far as the first chunk."""
    found = Requests()
    for chunk in in_chunks(claude.results(claude_id, headers)):
        results = read_chunk(chunk)
        found.lines += results.lines
        found.unreadable += results.broken + results.strange
        found.names.update(results.succeeded, results.others)
        names = [name for name in (*results.succeeded, *results.others) if may_be_ours(name)]
        with read(engine) as connection:
            places = requests.places(connection, names)
        found.ours.update(place.batch_id for place in places.values())
        found.answered.update(places[name].batch_id for name in places.keys() & results.succeeded.keys())
        outcomes = {name: str(one.parsed.type) for name, one in (results.succeeded | results.others).items()}
        found.unsent |= {
            name: outcomes[name] for name, place in places.items() if place.stage is Stage.UNSENT
        }
        found.sent |= {place.batch_id for place in places.values() if place.stage is Stage.SENT}
        found.nameless += len(names) - len(places)
        if found.is_strange and not found.unreadable:
            break
    return found


def may_be_ours(custom_id: str) -> bool:
    """Return whether a custom_id looks like the id of a request."""
    return REQUEST_ID.fullmatch(custom_id) is not None and custom_id[VERSION_AT] in OUR_VERSIONS
