"""The books of a run: what was accepted, what became of it, and every promise that was broken.

Pure accounting: `Books` is filled by `reading.py` from the tables, the ledger and the receivers; `audit` compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple

from tests.chaos.prices import billed, is_real_time

NAMED = 3
"""Ids that a broken promise names."""

CHANNELS = {"webhook": "webhook", "task": "task", "reply": None}
"""What a request's callback is in the tables, by the way on which its answer arrives."""

ANSWER_LOST = "answer_lost"
FINAL = frozenset({"completed", "discarded", "canceled"})
ENDS = {
    "plain": "completed",
    "flaky": "completed",
    "expired": "completed",
    "poisoned": "discarded",
    "refused alone": "discarded",
}
"""The only right end for each kind of request that traffic.py makes, and for one whose batch of one was refused."""


class Row(NamedTuple):
    """A request as the tables have it in the end."""

    id: str
    client: str
    model: str
    state: str
    kind: str
    channel: str | None  # webhook, task, or None where the producer waits
    delivery: str | None  # the state of its delivery
    error: str | None = None
    pays_again: bool = False  # it may be called while Anthropic has it in a batch, and both be billed


class Call(NamedTuple):
    """A call in real time as the tables have it in the end."""

    request_id: str
    state: str
    claude_id: str | None  # of the answer, if it is known


class Used(NamedTuple):
    """What a client used of a model; `cost` in dollars."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: Decimal

    def plus(self, entry: Mapping[str, Any]) -> Used:
        """Return this and one more billed entry of the ledger."""
        return Used(
            self.requests + 1,
            self.input_tokens + entry["input_tokens"],
            self.output_tokens + entry["output_tokens"],
            self.cost + billed(entry),
        )


@dataclass
class Books:
    """Everything that the promises are about."""

    accepted: set[str]
    unknown: set[str]  # a producer does not know whether they were accepted: either is fine
    rows: list[Row]
    entries: Sequence[Mapping[str, Any]]  # the simulator's ledger
    usage: dict[
        tuple[str, str, str], Used
    ]  # by client, model and "batch" or "real_time", as the tables have it
    arrived: dict[str, Counter[str]]  # by channel ("webhook", "task", "reply"): how often each id arrived
    calls: list[Call] = field(default_factory=list)
    killed_clients: frozenset[str] = frozenset()  # died while they enqueued: they may have more requests
    canceled: set[str] = field(default_factory=set)
    broken: list[str] = field(
        default_factory=list
    )  # what receivers and logs show: a bad signature, a quoted prompt

    def without(self, ids: set[str]) -> Books:
        """Return the books without these requests, which the tables can't know; none of them may have run twice."""
        twice = _some("billed twice, though the tables have lost them", ids.intersection(self.ran_twice))
        return replace(
            self,
            accepted=self.accepted - ids,
            unknown=self.unknown - ids,
            rows=[row for row in self.rows if row.id not in ids],
            entries=[entry for entry in self.entries if entry["custom_id"] not in ids],
            calls=[call for call in self.calls if call.request_id not in ids],
            arrived={
                channel: Counter({id_: count for id_, count in counts.items() if id_ not in ids})
                for channel, counts in self.arrived.items()
            },
            broken=[*self.broken, *twice],
        )

    @property
    def states(self) -> Counter[str]:
        """Requests by state."""
        return Counter(row.state for row in self.rows)

    @property
    def succeeded(self) -> list[Mapping[str, Any]]:
        """The ledger's entries that were billed."""
        return [entry for entry in self.entries if entry["outcome"] == "succeeded"]

    @property
    def ran_twice(self) -> list[str]:
        """Ids that were billed more than once, but for those whose client pays for a call beside its batch."""
        runs = Counter((entry["custom_id"], is_real_time(entry)) for entry in self.succeeded)
        twice = {id_ for (id_, _), count in runs.items() if count > 1}
        both = {id_ for id_, in_real_time in runs if in_real_time and (id_, False) in runs}
        return sorted(twice | (both - {row.id for row in self.rows if row.pays_again}))

    @property
    def lost_answers(self) -> list[Mapping[str, Any]]:
        """The billed entries of calls whose answer never came: the tables have no money for them."""
        lost = {call.request_id for call in self.calls if call.state == "lost"}
        known = {call.claude_id for call in self.calls}
        return [
            entry
            for entry in self.succeeded
            if is_real_time(entry) and entry["custom_id"] in lost and entry["batch_id"] not in known
        ]

    @property
    def answered(self) -> list[Mapping[str, Any]]:
        """The billed entries whose answers came."""
        lost = {entry["batch_id"] for entry in self.lost_answers}
        return [entry for entry in self.succeeded if entry["batch_id"] not in lost]

    @property
    def billed_dollars(self) -> Decimal:
        """What Anthropic would bill, by the ledger's tokens, but for answers that were lost."""
        return sum(map(billed, self.answered), Decimal(0))

    @property
    def booked_dollars(self) -> Decimal:
        """What the tables say was spent."""
        return sum((used.cost for used in self.usage.values()), Decimal(0))

    def expected(self, channel: str) -> set[str]:
        """Return the ids that must have arrived on a channel."""
        # Nobody waits for a reply to what may not have been accepted.
        unasked = self.canceled | (self.unknown if CHANNELS[channel] is None else set())
        return {row.id for row in self.rows if row.channel == CHANNELS[channel]} - unasked


def audit(books: Books) -> list[str]:
    """Return the promises that were broken, one sentence each; none is the only good answer."""
    return [
        sentence
        for look in (_nothing_lost, _nothing_twice, _everybody_called, _every_cent)
        for sentence in look(books)
    ] + books.broken


def _nothing_lost(books: Books) -> Iterator[str]:
    there = {row.id for row in books.rows}
    vouched = books.accepted | books.unknown
    yield from _some("accepted, but in no table", books.accepted - there)
    strange = {row.id for row in books.rows if row.client not in books.killed_clients} - vouched
    yield from _some("in the tables, but never accepted", strange)
    yield from _some("not final", _ids(books, lambda row: row.state not in FINAL))
    wrong = _ids(books, lambda row: row.state in FINAL and row.state != ENDS.get(row.kind, "completed"))
    doubtful = _told_of_a_doubt(books)
    yield from _some("ended in the wrong state", wrong - books.canceled - doubtful)
    lost = {call.request_id for call in books.calls if call.state == "lost"}
    yield from _some("told of a lost answer, but no call of theirs was lost", doubtful - lost)


def _nothing_twice(books: Books) -> Iterator[str]:
    yield from _some("billed twice", books.ran_twice)
    paid = {entry["custom_id"] for entry in books.succeeded}
    unanswered = {entry["custom_id"] for entry in books.lost_answers} & _told_of_a_doubt(books)
    completed = _ids(books, lambda row: row.state == "completed")
    yield from _some("billed, but not completed", paid - completed - books.canceled - unanswered)
    yield from _some("completed, but never run", completed - paid)


def _everybody_called(books: Books) -> Iterator[str]:
    yield from _some("not delivered", _ids(books, lambda row: row.delivery not in (None, "delivered")))
    for channel, counts in books.arrived.items():
        missing = books.expected(channel) - counts.keys()
        sent = _ids(books, lambda row: row.delivery == "delivered")
        yield from _some(f"never arrived by {channel}, nor are they recorded as delivered", missing - sent)
        yield from _some(f"never arrived by {channel}, though recorded as delivered", missing & sent)
        strange = counts.keys() - {row.id for row in books.rows if row.channel == CHANNELS[channel]}
        yield from _some(f"arrived by {channel}, but were never asked for", strange)


def _every_cent(books: Books) -> Iterator[str]:
    client_of = {row.id: row.client for row in books.rows}
    ledger: dict[tuple[str, str, str], Used] = {}
    for entry in books.answered:
        processing = "real_time" if is_real_time(entry) else "batch"
        key = client_of.get(entry["custom_id"], "nobody"), entry["model"], processing
        ledger[key] = ledger.get(key, Used(0, 0, 0, Decimal(0))).plus(entry)
    for key in sorted(ledger.keys() | books.usage.keys()):
        if ledger.get(key) != books.usage.get(key):
            yield f"{'/'.join(key)}: the ledger has {ledger.get(key)}, the tables {books.usage.get(key)}"


def _told_of_a_doubt(books: Books) -> set[str]:
    return _ids(books, lambda row: row.state == "discarded" and row.error == ANSWER_LOST)


def _ids(books: Books, chosen: Callable[[Row], bool]) -> set[str]:
    return {row.id for row in books.rows if chosen(row)}


def _some(what: str, ids: Iterable[str]) -> Iterator[str]:
    if found := sorted(ids):
        yield f"{len(found)} {what}: {', '.join(found[:NAMED])}{' …' if len(found) > NAMED else ''}"
