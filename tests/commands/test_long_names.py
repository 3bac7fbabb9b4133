"""Tables on a terminal of 80 columns, with names and sums as long as they come: ids, names and sums are shown whole."""

from __future__ import annotations

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import succeeded

from carpool import Producer, Webhook
from carpool_worker.database import now, write
from carpool_worker.store.deliveries import endpoints

pytestmark = pytest.mark.usefixtures("command_line")

CLIENT = "invoicing-and-collections-of-the-northern-region"
MODEL = "claude-sonnet-of-a-name-that-is-longer-than-any-20251231"
BETAS = ["output-300k-2026-03-24", "context-management-and-more-2026-06-27"]
URL = "http://a-receiver-with-a-long-name.billing.example.com:8443/webhooks/of/claude/answers"
ERROR = "connection refused by the receiver"
LANE = f"{MODEL} anthropic-beta={','.join(sorted(BETAS))}"

TABLES = (
    ("status",),
    ("batches",),
    ("requests",),
    ("deliveries",),
    ("deliveries", "endpoints"),
    ("clients",),
    ("keys", "list"),
    ("lanes",),
    ("usage",),
)
COST = 123_456_789_012_345_678
"""In picodollars, as the tables keep it."""


SUM = "$123,456.79"
"""The same as the tables show it."""


def test_no_table_cuts_a_name_an_id_or_a_sum(carpool: Carpool, redis_url: str) -> None:
    # Given a request that is completed, one that waits in a paused lane, a receiver that was stopped, and a key
    with Producer(redis_url, client=CLIENT, allow_http=True) as producer:
        ids = [producer.enqueue(request(model=MODEL), betas=BETAS, callback=Webhook(URL))]
        carpool.until(lambda: carpool.ended(1))
        succeeded("pause", LANE, "--reason", "nothing more until the new contract is signed by both sides")
        ids.append(producer.enqueue(request(model=MODEL), betas=BETAS))
        carpool.aggregate()
    carpool.change(
        f"UPDATE deliveries SET state = 'discarded', last_error = '{ERROR}', discarded_at = due_at"
    )
    with write(carpool.engine) as connection:
        endpoints.stop(connection, URL, ERROR, now())
    for table in ("batches", "requests", "usage", "usage_entries"):
        carpool.change(f"UPDATE {table} SET cost = {COST}, list_price = {2 * COST}")
    for table in ("usage", "usage_entries"):
        carpool.change(f"UPDATE {table} SET unpriced = 0")
    succeeded("keys", "create", CLIENT)
    batches = [str(row.id) for row in carpool.rows("SELECT id FROM batches")]

    # When
    shown = {" ".join(one): succeeded(*one) for one in TABLES}

    # Then each shows whole what is copied from it
    short = MODEL.removeprefix("claude-")
    for name, whole in {
        "requests": [*ids, CLIENT, short, "completed"],
        "deliveries": [ids[0], URL, ERROR, "discarded"],
        "deliveries endpoints": [URL, ERROR],
        "clients": [CLIENT, SUM],
        "keys list": [CLIENT, "valid", "messages"],
        "lanes": [MODEL, *BETAS],
        "usage": [SUM],
        "batches": [*batches, "completed"],
        "status": ["carpool deliveries --state discarded", SUM],
    }.items():
        assert [one for one in whole if one not in shown[name]] == [], shown[name]
    # And beside its figures usage breaks names, but leaves nothing out: its CSV is for copying
    first_column = [line[1:35].strip() for line in shown["usage"].splitlines()]
    assert f"{CLIENT} ·{short}" in "".join(first_column)
    # And a line is longer than a terminal's only where it is one name, which that wraps
    wide = [
        line for text in shown.values() for line in text.splitlines() if len(line) > 80 and URL not in line
    ]
    assert wide == []
