"""The ledger: the outcome of each request of each batch and of each call, and what was billed; an SQLite file."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

MAX_NAMED = 100
CHUNK_ROWS = 1_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    batch_id TEXT NOT NULL, custom_id TEXT NOT NULL, model TEXT, outcome TEXT NOT NULL, error_type TEXT,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cache_creation_input_tokens INTEGER NOT NULL, cache_read_input_tokens INTEGER NOT NULL
)"""
REPEATS = """
CREATE TABLE IF NOT EXISTS repeats (first TEXT NOT NULL, again TEXT NOT NULL)"""
OUTCOMES = "SELECT outcome, count(*) AS requests FROM runs GROUP BY outcome"
DISTINCT = """
SELECT count(DISTINCT batch_id) FILTER (WHERE batch_id LIKE 'msgbatch_%') AS batches,
    count(*) FILTER (WHERE batch_id NOT LIKE 'msgbatch_%' AND outcome = 'succeeded') AS real_time,
    count(DISTINCT custom_id) AS custom_ids
FROM runs"""
RAN_TWICE = """
SELECT custom_id FROM runs WHERE outcome = 'succeeded'
GROUP BY custom_id HAVING count(*) > 1 ORDER BY custom_id"""
TOKENS_BY_MODEL = """
SELECT model, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cache_creation_input_tokens) AS cache_creation_input_tokens,
    sum(cache_read_input_tokens) AS cache_read_input_tokens
FROM runs WHERE outcome = 'succeeded' GROUP BY model"""


class LedgerEntry(NamedTuple):
    """The outcome of one request in one batch; only succeeded ones are billed.

    Of a call of the Messages API, `batch_id` is the answer's own id, and `custom_id` its Idempotency-Key.
    """

    batch_id: str
    custom_id: str
    model: str | None
    outcome: str
    error_type: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


INSERT = f"INSERT INTO runs VALUES ({', '.join('?' * len(LedgerEntry._fields))})"  # noqa: S608 (placeholders alone)


class Ledger:
    """The ledger's file: written by one thread, a transaction a batch, and read by any."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(SCHEMA)
            database.execute(REPEATS)

    def record(self, batch_id: str, chunks: Iterable[list[LedgerEntry]]) -> None:
        """Record a whole batch or nothing of it; what an interrupted run left is replaced."""
        with closing(self._connect()) as database, database:
            database.execute("DELETE FROM runs WHERE batch_id = ?", (batch_id,))
            for chunk in chunks:
                database.executemany(INSERT, chunk)

    def add(self, entry: LedgerEntry) -> None:
        """Record a call of the Messages API."""
        with closing(self._connect()) as database, database:
            database.execute(INSERT, entry)

    def add_repeat(self, first: str, again: str) -> None:
        """Record that a fault made a second batch of a post, before it runs."""
        with closing(self._connect()) as database, database:
            database.execute("INSERT INTO repeats VALUES (?, ?)", (first, again))

    def repeats(self) -> list[tuple[str, str]]:
        """Return the batches that a fault made twice: the one that its post was answered with, and the other."""
        with closing(self._connect()) as database:
            return [(row["first"], row["again"]) for row in database.execute("SELECT * FROM repeats")]

    def summary(self) -> dict[str, Any]:
        """Return the totals; `ran_twice` has the first 100 of the custom_ids that were billed more than once."""
        with closing(self._connect()) as database:
            totals = database.execute(DISTINCT).fetchone()
            outcomes = {row["outcome"]: row["requests"] for row in database.execute(OUTCOMES)}
            twice = [row["custom_id"] for row in database.execute(RAN_TWICE)]
            tokens = {row["model"]: dict(row) for row in database.execute(TOKENS_BY_MODEL)}
        return {
            "batches": totals["batches"],
            "requests_run": outcomes.get("succeeded", 0) + outcomes.get("errored", 0),
            "billed": outcomes.get("succeeded", 0),
            "billed_in_real_time": totals["real_time"],
            "distinct_custom_ids": totals["custom_ids"],
            "outcomes": outcomes,
            "ran_twice_count": len(twice),
            "ran_twice": twice[:MAX_NAMED],
            "tokens_by_model": {
                model: {k: v for k, v in row.items() if k != "model"} for model, row in tokens.items()
            },
        }

    def entries(self) -> Iterator[bytes]:
        """Yield all entries, oldest first, as chunks of JSON lines."""
        with closing(self._connect()) as database:
            rows = database.execute("SELECT * FROM runs ORDER BY rowid")
            while chunk := rows.fetchmany(CHUNK_ROWS):
                yield b"".join(msgspec.json.encode(dict(row)) + b"\n" for row in chunk)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, check_same_thread=False)
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA synchronous = OFF")  # survives a killed process, which is enough here
        return database
