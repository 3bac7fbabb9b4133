"""The books notice every promise that is broken: a check that can't fail proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import pytest
from tests.chaos.books import Books, Row, Used, audit

HAIKU = "claude-haiku-4-5"


def entry(custom_id: str, batch_id: str = "msgbatch_1") -> dict[str, object]:
    tokens = {"input_tokens": 100, "output_tokens": 20}
    uncached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    ran = {"batch_id": batch_id, "custom_id": custom_id, "model": HAIKU, "outcome": "succeeded"}
    return {**ran, **tokens, **uncached}


def row(id_: str, channel: str | None, kind: str = "plain", state: str = "completed") -> Row:
    return Row(id_, "web", HAIKU, state, kind, channel, "delivered" if channel else None)


def kept() -> Books:
    """Four requests, of which one was poisoned, and one of which its producer knows nothing; all cost what Haiku costs:
    half a dollar a million tokens in, two and a half out.
    """
    return Books(
        accepted={"a", "b", "c", "d"},
        unknown={"e"},
        rows=[
            row("a", "webhook"),
            row("b", "task"),
            row("c", None),
            row("d", "webhook", "poisoned", "discarded"),
            row("e", None, "poisoned", "discarded"),
        ],
        entries=[entry("a"), entry("b"), entry("c")],
        usage={("web", HAIKU, "batch"): Used(3, 300, 60, Decimal("0.0003"))},
        arrived={"webhook": Counter("aad"), "task": Counter("b"), "reply": Counter("c")},
    )


def lose(books: Books) -> None:
    books.rows = books.rows[1:]
    books.arrived["webhook"] = Counter("d")


def invent(books: Books) -> None:
    books.rows.append(row("z", "task"))


def never_end(books: Books) -> None:
    books.rows[3] = row("d", "webhook", "poisoned", "batched")


def give_up(books: Books) -> None:
    books.rows[0] = row("a", "webhook", state="discarded")


def run_twice(books: Books) -> None:
    books.entries = [*books.entries, entry("a")]


def never_run(books: Books) -> None:
    books.entries = books.entries[1:]


def forget_the_webhook(books: Books) -> None:
    books.arrived["webhook"] = Counter("a")


def forget_the_reply(books: Books) -> None:
    books.arrived["reply"] = Counter()


def call_a_stranger(books: Books) -> None:
    books.arrived["task"]["c"] += 1


def leave_undelivered(books: Books) -> None:
    books.rows[1] = books.rows[1]._replace(delivery="discarded")


def miscount(books: Books) -> None:
    books.usage["web", HAIKU, "batch"] = Used(3, 300, 60, Decimal("0.000300000001"))


def test_books_in_order_are_found_in_order() -> None:
    assert audit(kept()) == []


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lose, "1 accepted, but in no table: a"),
        (invent, "1 in the tables, but never accepted: z"),
        (never_end, "1 not final: d"),
        (give_up, "1 ended in the wrong state: a"),
        (run_twice, "1 billed twice: a"),
        (never_run, "1 completed, but never run: a"),
        (forget_the_webhook, "1 never arrived by webhook, though recorded as delivered: d"),
        (forget_the_reply, "1 never arrived by reply, nor are they recorded as delivered: c"),
        (call_a_stranger, "1 arrived by task, but were never asked for: c"),
        (leave_undelivered, "1 not delivered: b"),
    ],
)
def test_a_broken_promise_is_named(break_it: Callable[[Books], None], sentence: str) -> None:
    # Given books in order
    books = kept()

    # When a promise is broken, Then the audit says which
    break_it(books)
    assert sentence in audit(books)


def test_a_millionth_of_a_cent_is_missed() -> None:
    # Given books in order, When an amount is off, Then the audit shows both
    books = kept()
    miscount(books)
    [sentence] = audit(books)
    assert "0.0003" in sentence
    assert "0.000300000001" in sentence
