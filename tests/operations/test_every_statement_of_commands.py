"""What operators' commands ask the tables is found by an index, however large they are, as what the agents ask."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.plans import Plans, explained
from tests.fixtures.retention import days_ago, given_delivery, given_segment, row

from carpool_worker.database import now, read, write
from carpool_worker.models import Batch, DeliveryAttempt, Tag
from carpool_worker.operations import cancel, replay, retry
from carpool_worker.operations import reconcile as reconciling
from carpool_worker.policies.budgets import Budget
from carpool_worker.settings import Settings
from carpool_worker.states import BatchState, DeliveryState, RequestState
from carpool_worker.store import erasure
from carpool_worker.store.batches.filling import FRESH
from carpool_worker.store.batches.rows import first_id_at
from carpool_worker.store.reports import clients as report
from carpool_worker.store.reports import doctor, lanes
from carpool_worker.store.reports import status as status_report
from carpool_worker.units import DAY, HOUR, Milliseconds
from carpool_worker.views import (
    batch_days,
    batches,
    budgets,
    client_cards,
    clients,
    deliveries,
    durations,
    endpoints,
    errors,
    lookup,
    request_looks,
    requests,
    spend,
    turns,
)
from carpool_worker.views.batches import BatchFilter
from carpool_worker.views.deliveries import DeliveryFilter
from carpool_worker.views.requests import RequestFilter
from carpool_worker.views.signed_webhooks import signed_webhook

HISTORY = 20
"""Batches and segments. Plans are made as if they were too many to read, see tests/fixtures/plans.py."""

SETTINGS = Settings.model_construct()
LIMITED = Settings.model_construct(budgets={"default": Budget(day=Decimal(1))})
SPENT = spend.SpendFilter(first=date(2026, 11, 1), last=date(2026, 11, 30), client="billing")
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BATCH = "msgbatch_7"
ERROR = {"state": RequestState.DISCARDED, "outcome": "errored", "error": "api_error"}

FIRST_FEW = re.compile(r" ORDER BY (batches|deliveries|requests)\.\w+ DESC\b.* LIMIT ")
"""A page of a list, on SQLite: it is read from the newest on until it is full."""

BRIEFLY_KEPT = "on params"
"""What grows with the requests of a week only may be read to count those that can be retried."""

Asked = Callable[[sa.Connection, str], Any]


AT = days_ago(2)
HOUR_AGO = Milliseconds(now() - HOUR)


def first(number: int) -> str:
    return f"{first_id_at(AT)[:24]}{number:08x}"


def nth(number: int) -> str:
    return f"{first_id_at(AT)[:13]}{number:03x}".ljust(32, "0")


ASKED: dict[str, Asked] = {
    "requests": lambda on, _: requests.page(on, SETTINGS, RequestFilter(), 20),
    "requests of a client": lambda on, _: requests.page(on, SETTINGS, RequestFilter(client="billing"), 20),
    "requests of a model": lambda on, _: requests.page(on, SETTINGS, RequestFilter(model="m"), 20),
    "requests of a batch": lambda on, _: requests.page(on, SETTINGS, RequestFilter(batch=first(3)), 20),
    "requests with a tag": lambda on, _: requests.page(on, SETTINGS, RequestFilter(tag="nightly"), 20),
    "requests that failed": lambda on, _: requests.page(on, SETTINGS, RequestFilter(error="api_error"), 20),
    "requests by state": lambda on, _: requests.page(
        on, SETTINGS, RequestFilter(state=RequestState.RETRYABLE), 20
    ),
    "requests since": lambda on, _: requests.page(on, SETTINGS, RequestFilter(since=now() - HOUR), 20),
    "requests before": lambda on, id_: requests.page(on, SETTINGS, RequestFilter(), 20, before=id_),
    "requests after": lambda on, id_: requests.page(on, SETTINGS, RequestFilter(), 20, after=id_),
    "looks at requests": lambda on, id_: [
        request_looks.look(on, SETTINGS, one, 20, *ends)
        for one in (
            RequestFilter(state=RequestState.CANCELED),
            RequestFilter(state=RequestState.CANCELED, model="m"),
            RequestFilter(client="billing"),
        )
        for ends in ((), (id_,), (None, id_), (None, None, first(9)), (None, None, None, first(9)))
    ],
    "rates": lambda on, _: status_report.stored_since(on, HOUR_AGO),
    "requests show": lambda on, id_: requests.find(on, SETTINGS, id_[:30], contents=True),
    "results of a client": lambda on, _: list(requests.ids_of_client(on, "billing", now() - HOUR)),
    "batches": lambda on, _: batches.page(on, SETTINGS, BatchFilter(), 20),
    "batches by state": lambda on, _: batches.page(on, SETTINGS, BatchFilter(states=[BatchState.OPEN]), 20),
    "batches since": lambda on, _: batches.page(on, SETTINGS, BatchFilter(since=now() - HOUR), 20),
    "batches of a model": lambda on, _: batches.page(on, SETTINGS, BatchFilter(model="m"), 20),
    "batches before": lambda on, _: batches.page(on, SETTINGS, BatchFilter(), 20, before=first(9)),
    "batches show": lambda on, _: batches.find(on, SETTINGS, first(3)),
    "batches show, by Anthropic's id": lambda on, _: batches.find(on, SETTINGS, BATCH),
    "results of a batch": lambda on, _: requests.ids_in_batch(on, first(3)),
    "batches of the day": lambda on, _: batch_days.day(on),
    "batches show, its parts": lambda on, _: batch_days.breakdown(on, first(3)),
    "requests by id or key": lambda on, id_: [
        lookup.requests_called(on, id_[:30], client) for client in (None, "billing")
    ],
    "batches, completed": lambda on, _: lookup.newest_batches(on, first(3)[:20], 20),
    "clients": lambda on, _: clients.active(on, SETTINGS),
    "a page of spend": lambda on, _: [spend.spent(on, SETTINGS, SPENT, by, SPENT.last) for by in spend.BY],
    "a page of clients": lambda on, _: client_cards.page(on, LIMITED, Milliseconds(now() - DAY), 20),
    "a page of keys": lambda on, _: budgets.of_keys(on, "billing"),
    "a page of lanes": lambda on, _: (durations.by_hour(on), turns.queues(on, SETTINGS)),
    "a signed webhook": lambda on, id_: signed_webhook(on, id_, [WEBHOOK_SECRET]),
    "clients show": lambda on, _: clients.find(on, SETTINGS, "billing"),
    "lanes": lambda on, _: lanes.active(on),
    "lanes, is it known": lambda on, _: lanes.is_known(on, "unheard of"),
    "deliveries": lambda on, _: deliveries.page(on, DeliveryFilter(), 20),
    "deliveries given up": lambda on, _: deliveries.page(
        on, DeliveryFilter(state=DeliveryState.DISCARDED), 20
    ),
    "deliveries waiting": lambda on, _: deliveries.page(
        on, DeliveryFilter(state=DeliveryState.RETRYABLE), 20
    ),
    "deliveries before": lambda on, id_: deliveries.page(on, DeliveryFilter(), 20, before=id_),
    "deliveries show": lambda on, id_: deliveries.find(on, id_[:30]),
    "deliveries endpoints": lambda on, _: deliveries.failing_endpoints(on),
    "errors": lambda on, _: [errors.grouped(on, HOUR_AGO, client) for client in (None, "billing")],
    "receivers": lambda on, _: [endpoints.receivers(on, client) for client in (None, "billing")],
    "latest tries": lambda on, _: [endpoints.latest_tries(on, 20, before) for before in (None, 9)],
    "deliveries replay, how many": lambda on, id_: [
        deliveries.count_dead_letters(on, one)
        for one in (
            DeliveryFilter(),
            DeliveryFilter(client="billing"),
            DeliveryFilter(ids=[id_]),
            DeliveryFilter(client_batches=[id_]),
        )
    ],
    "quotas, what waits": lambda on, id_: [
        (report.loads(on, None, keys), report.loads_of(on, [id_], {"billing", "/nightly"}))
        for keys in ((), ("nightly",))
    ],
    "retry, how many": lambda on, id_: [
        retry.estimate(on, retry.choose(on, SETTINGS, *given), retry.chances(even_paid=True))
        for given in ((), ([id_],), (None, "billing"), (None, None, now() - HOUR, "api_error", "m"))
    ],
    "purge, how many": lambda on, _: erasure.count(on, "billing"),
    "doctor": lambda on, _: (doctor.newest_batch(on, None, now() - HOUR), doctor.waits_for_a_secret(on)),
}


@pytest.fixture
def filled(engine: sa.Engine) -> sa.Engine:
    """Tables with what has ended, and some of each state, whose rows the database has counted."""
    at = AT
    final = {"state": BatchState.COMPLETED, "finished_at": at, "tallied_at": at, "submitting_at": at}
    head = FRESH | {"headers": "{}", "model": "m", "lane": "m", "opened_at": at, "request_count": 1}
    given = [head | final | {"id": first(n), "claude_id": f"msgbatch_{n}"} for n in range(HISTORY)]
    with write(engine) as connection:
        connection.execute(sa.insert(Batch), given)
    for number in range(HISTORY):
        failed = ERROR if number % 3 == 0 else {}
        one = row(number, 1.9, batch_id=first(number), id=nth(number), **failed)
        [id_] = given_segment(engine, 2, one)
        given_delivery(engine, id_, list(DeliveryState)[number % len(DeliveryState)])
        with write(engine) as connection:
            tag = {"client": "billing", "tag": "nightly", "request_id": id_}
            connection.execute(sa.insert(Tag).values(tag))
            tried = {"request_id": id_, "attempt": 1, "at": at, "milliseconds": 1}
            connection.execute(sa.insert(DeliveryAttempt).values(tried))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    return engine


def found(engine: sa.Engine, act: Callable[[], object]) -> list[str]:
    """How whole tables are read while that is done."""
    with explained(engine) as plans:
        act()
    return _bad(plans)


def _bad(plans: Plans) -> list[str]:
    found = ((step, " ".join(statement.split())) for statement, step in plans.whole.items())
    return [
        f"{step}: {text}"
        for step, text in found
        if not FIRST_FEW.search(text) and not step.endswith(BRIEFLY_KEPT)
    ]


def test_no_statement_of_a_command_reads_a_table_that_grows(filled: sa.Engine) -> None:
    # Given
    id_ = nth(3)

    # When
    acts: dict[str, Callable[[], object]] = {
        **{name: partial(ask, filled, asked, id_) for name, asked in ASKED.items()},
        "reconcile, how many": lambda: reconciling.count_posted(filled, Milliseconds(now() - HOUR)),
        "cancel of a client": lambda: list(cancel.unfinished_of_client(filled, "billing")),
        "cancel of a batch": lambda: list(cancel.unfinished_in_batch(filled, BATCH)),
        "cancel": lambda: cancel.cancel(filled, [id_], actor="me"),
        "deliveries replay": lambda: replay.replay(filled, DeliveryFilter(client="billing"), actor="me"),
        "deliveries replay of one": lambda: replay.replay(filled, DeliveryFilter(ids=[id_]), actor="me"),
        "retry": lambda: retry_all(filled),
        "purge of a request": lambda: purge_one(filled, id_),
        "purge of a client": lambda: purge_all(filled),
    }
    bad = {name: some for name, act in acts.items() if (some := found(filled, act))}

    # Then
    assert "\n".join(f"{name}: {one}" for name, some in bad.items() for one in some) == ""


def ask(engine: sa.Engine, asked: Asked, id_: str) -> None:
    with read(engine) as connection:
        asked(connection, id_)


def retry_all(engine: sa.Engine) -> None:
    with read(engine) as connection:
        wanted = retry.choose(connection, SETTINGS, None, "billing", error="api_error", model="m")
    retry.retry(engine, wanted, retry.chances(even_paid=True), actor="me")


def purge_one(engine: sa.Engine, id_: str) -> None:
    with write(engine) as connection:
        erasure.erase_request(connection, id_)


def purge_all(engine: sa.Engine) -> None:
    with write(engine) as connection:
        erasure.erase_requests(connection, "billing", 0, 20)
        erasure.erase_answers(connection, "billing", 0, 20)
