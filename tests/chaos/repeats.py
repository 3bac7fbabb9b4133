"""Posts that a relay repeated: what ran twice by its doing is told from what Carpool would have paid for twice.

Of each post that it repeated there are two batches. A request may thus have run once more than it should, in the batch
that did not bring its answer; and `carpool reconcile` must name that batch, with as many requests as ran there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import sqlalchemy as sa
from tests.chaos.operating import carpool
from tests.chaos.stack import Stack

from carpool_worker.database import read
from carpool_worker.models.tables import batches, requests

Entry = Mapping[str, Any]


class Repeat(NamedTuple):
    """The two batches of a post that a relay repeated; it answered with the first."""

    first: str
    again: str

    def other(self, claude_id: str) -> str:
        """Return the other of the two."""
        return self.again if claude_id == self.first else self.first


def surplus(
    entries: Sequence[Entry],
    repeats: Iterable[Repeat],
    known: AbstractSet[str],
    answered_in: Mapping[str, str | None],
) -> list[Entry]:
    """Return the billed entries that a relay is to blame for: of each request at most one for each repeated post.

    It is the entry of a batch that did not bring the request's answer. One that the tables know (`known`) is Carpool's
    own doing, unless the answer came from the other batch of the same post. `answered_in` has the batch of each answer.
    """
    billed = {(one["batch_id"], one["custom_id"]): one for one in entries if one["outcome"] == "succeeded"}
    found = []
    for repeat in repeats:
        for id_ in {custom_id for claude_id, custom_id in billed if claude_id in repeat}:
            spare = [
                billed[claude_id, id_]
                for claude_id in sorted(repeat, key=lambda one: one in known)
                if (claude_id, id_) in billed
                and answered_in.get(id_) != claude_id
                and (claude_id not in known or answered_in.get(id_) == repeat.other(claude_id))
            ]
            found += spare[:1]
    return found


def without(entries: Iterable[Entry], some: Iterable[Entry]) -> list[Entry]:
    """Return the entries but for some of them."""
    left_out = {(one["batch_id"], one["custom_id"]) for one in some}
    return [one for one in entries if (one["batch_id"], one["custom_id"]) not in left_out]


def unnamed(
    entries: Sequence[Entry], known: AbstractSet[str], findings: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a sentence for each batch with surplus `entries`, in no table, that the findings don't name rightly."""
    named = {one["claude_id"]: one["answered"] for one in findings if one["verdict"] == "twice"}
    for claude_id in sorted({one["batch_id"] for one in entries} - known):
        ran = sum(one["batch_id"] == claude_id for one in entries)
        if (said := named.get(claude_id)) != ran:
            yield f"{claude_id} ran {ran} requests by a relay's doing, and reconcile says {said}"


def settle_repeats(stack: Stack) -> list[Entry]:
    """Return what ran twice by a relay's doing; what is not named is a broken promise of the stack's.

    Called once all is final. The books are kept without these entries.
    """
    repeats = [Repeat(*pair) for pair in stack.remote.repeats()]
    if not repeats:
        return []
    row = sa.select(requests.c.id, batches.c.claude_id).join_from(
        requests, batches, batches.c.id == requests.c.batch_id
    )
    with read(stack.engine) as connection:
        known = set(connection.scalars(sa.select(batches.c.claude_id)))
        answered_in = dict(connection.execute(row).tuples().all())
    entries = stack.remote.ledger_entries()
    twice = surplus(entries, repeats, known, answered_in)
    [said] = carpool(stack, "reconcile", "--since", "1d", "--json")
    stack.broken += unnamed(twice, known, said["findings"])
    stack.notes.append(
        f"posts repeated by a relay: {len(repeats):,}, by which {len(twice):,} requests ran twice"
    )
    return twice
