"""Fills the books from the tables, the simulator's ledger, the receivers and the logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.chaos.books import Books, Call, Row, Used
from tests.chaos.traffic import SECRET

from carpool_worker.database import read
from carpool_worker.simulator import RemoteSimulator

PICODOLLARS = 10**12
ROWS = """
SELECT r.id, r.client, s.model, r.state, r.metadata, s.callback, r.error, r.deadline_policy,
    CASE WHEN substr(d.progress, r.answer_position + 1, 1) = 'd' THEN 'delivered' ELSE d.state END AS delivery,
    b.state = 'rejected' AND b.request_count = 1 AS refused_alone
FROM requests r JOIN segments s ON s.id = r.segment_id LEFT JOIN deliveries d ON d.answer_id = r.answer_id AND (
    d.position = r.answer_position OR d.position = -1 AND (
        d.progress IS NULL OR substr(d.progress, r.answer_position + 1, 1) IN ('-', 'd')
    )
) LEFT JOIN batches b ON b.id = r.batch_id"""
CALLS = "SELECT request_id, state, claude_id FROM real_time_calls"
BATCHES_OF = "SELECT id, batch_id FROM requests"
USAGE = """
SELECT client, model, processing, sum(requests) AS requests, sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens, sum(cost) AS cost
FROM (SELECT {columns} FROM usage UNION ALL SELECT {columns} FROM usage_entries) AS ledger
GROUP BY client, model, processing""".format(
    columns="client, model, processing, requests, input_tokens, output_tokens, cost"
)
OPEN = {
    "requests": "SELECT state, count(*) FROM requests WHERE finished_at IS NULL GROUP BY state",
    "batches": "SELECT state, count(*) FROM batches WHERE finished_at IS NULL GROUP BY state",
    "deliveries": "SELECT state, sum(pending) FROM deliveries WHERE delivered_at IS NULL AND discarded_at IS NULL "
    "GROUP BY state",
    "calls": "SELECT state, count(*) FROM real_time_calls WHERE finished_at IS NULL GROUP BY state",
}
ANSWER_MARK = "[simulated]"


def rows(engine: sa.Engine) -> list[Row]:
    """Return every request as the tables have it."""
    with read(engine) as connection:
        return [_row(found) for found in connection.execute(sa.text(ROWS))]


def calls(engine: sa.Engine) -> list[Call]:
    """Return every call in real time as the tables have it."""
    with read(engine) as connection:
        found = connection.execute(sa.text(CALLS))
        return [Call(_hex(id_), state, claude_id) for id_, state, claude_id in found]


def usage(engine: sa.Engine) -> dict[tuple[str, str, str], Used]:
    """Return the ledger in SQL, by client, model and how it was processed; SQL sums exact integers."""
    with read(engine) as connection:
        return {
            (found.client, found.model, found.processing): Used(
                int(found.requests),
                int(found.input_tokens),
                int(found.output_tokens),
                Decimal(int(found.cost)) / PICODOLLARS,
            )
            for found in connection.execute(sa.text(USAGE))
        }


def still_open(engine: sa.Engine) -> dict[str, int]:
    """Return how many rows are on their way still, by table and state."""
    with read(engine) as connection:
        return {
            f"{table} {state}": count
            for table, query in OPEN.items()
            for state, count in connection.execute(sa.text(query))
        }


def batches_of(engine: sa.Engine) -> dict[str, str]:
    """Return the batch of every request, by the request's id."""
    with read(engine) as connection:
        return {_hex(id_): _hex(batch_id) for id_, batch_id in connection.execute(sa.text(BATCHES_OF))}


def fill(
    engine: sa.Engine,
    simulator: RemoteSimulator,
    accepted: set[str],
    unknown: set[str],
    arrived: dict[str, Counter[str]],
) -> Books:
    """Return the books as they stand."""
    known = rows(engine), simulator.ledger_entries(), usage(engine)
    return Books(accepted, unknown, *known, arrived, calls(engine))


def quoted(logs: Path, *secrets: str) -> Iterator[str]:
    """Yield a sentence for each log that holds a prompt, an answer or a secret."""
    for log in sorted(logs.glob("*.log")):
        said = log.read_text(errors="replace")
        for content in (SECRET, ANSWER_MARK, *secrets):
            if content in said:
                yield f"{log.name} quotes {content!r}"


def _row(found: Any) -> Row:
    callback = json.loads(found.callback) if found.callback else {}
    channel = callback.get("kind")
    kind = (json.loads(found.metadata) if found.metadata else {}).get("kind", "plain")
    # A fault of the API that refuses a batch for good, which only this request was in: it can't be told from a bad one.
    kind = "refused alone" if found.refused_alone else kind
    shared = _hex(found.id), found.client, found.model, found.state, kind, channel, found.delivery
    return Row(*shared, found.error, found.deadline_policy == "pay_again")


def _hex(id_: Any) -> str:
    return id_.hex() if isinstance(id_, bytes) else str(id_)  # SQLite's are bytes
