"""No request ends without its delivery: what the tests' databases refuse when a transaction commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from tests.fixtures.segments import insert_request

from carpool_worker.database import open_engine, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.models import Params, Request, Segment
from carpool_worker.store import erasure
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.rows import NewDelivery
from carpool_worker.store.requests import discarded, endings
from carpool_worker.store.requests.discarded import Chance, DiscardedFilter
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.rows import UNBATCHED


class Requested(NamedTuple):
    """What an ending must know of its request."""

    id: str
    client: str
    callback: str | None
    client_batch: str | None = None


ID = "a" * 32
CALLBACK = '{"kind":"webhook","url":"https://books.example/answers"}'
REQUEST: dict[str, Any] = {
    "id": ID,
    "client": "books",
    "batch_id": UNBATCHED,
    "state": "batched",
    "attempt": 1,
    "params_bytes": 2,
    "enqueued_at": 1,
    "batched_at": 1,
}
END = "UPDATE requests SET state = 'completed', finished_at = 5"
REQUESTED = Requested(ID, "books", CALLBACK)
ERROR = ClaudeError("No.", kind="invalid_request_error")


@pytest.fixture(autouse=True)
def _request(engine: sa.Engine) -> None:
    given(engine, callback=CALLBACK)


def given(engine: sa.Engine, **values: Any) -> None:
    with write(engine) as connection:
        for table in (Request, Params, Segment):
            connection.execute(sa.delete(table))
        insert_request(connection, REQUEST | values)


def change(engine: sa.Engine, *statements: str) -> None:
    with write(engine) as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def deliver(engine: sa.Engine) -> None:
    change(engine, "UPDATE deliveries SET state = 'delivered', delivered_at = 9, claims = 1")


def discard(engine: sa.Engine, at: int) -> None:
    with write(engine) as connection:
        assert endings.discard(connection, UNBATCHED, [ID], ERROR, at) == [ID]


def retry(engine: sa.Engine) -> None:
    with write(engine) as connection:
        assert discarded.retry(connection, DiscardedFilter(kept_since=0), list(Chance), 1, 10) == 1
    change(engine, "UPDATE requests SET state = 'batched', retry_at = NULL")


def refused(engine: sa.Engine, act: Callable[[sa.Connection], object]) -> None:
    """It is refused, and not before the commit."""
    done = False
    with pytest.raises(sa.exc.IntegrityError), write(engine) as connection:  # noqa: PT012 - the commit raises it
        act(connection)
        done = True
    assert done


def test_a_final_state_without_a_delivery_is_refused(engine: sa.Engine) -> None:
    refused(engine, lambda connection: connection.execute(sa.text(END)))

    with read(engine) as connection:
        assert connection.scalar(sa.text("SELECT state FROM requests")) == "batched"


@pytest.mark.parametrize("state", ["completed", "discarded", "canceled"])
def test_so_is_a_request_that_begins_in_a_final_state(engine: sa.Engine, state: str) -> None:
    row = REQUEST | {"id": "b" * 32, "state": state, "finished_at": 5, "callback": CALLBACK}

    refused(engine, lambda connection: insert_request(connection, row))


def test_with_its_delivery_it_is_committed_whichever_is_written_first(engine: sa.Engine) -> None:
    with write(engine) as connection:
        deliveries.insert(connection, [NewDelivery(7, "books", CALLBACK, 1)], 5)
        connection.execute(sa.text(f"{END}, answer_id = 7, answer_position = 0"))

    with read(engine) as connection:
        assert connection.scalar(sa.text("SELECT state FROM requests")) == "completed"


def test_without_a_callback_nothing_is_owed(engine: sa.Engine) -> None:
    given(engine, callback=None)

    change(engine, END)


def test_the_one_function_that_ends_requests_pays_what_it_owes(engine: sa.Engine) -> None:
    with write(engine) as connection:
        endings.finish(connection, [Ending.canceled(REQUESTED)], 5)


def test_without_the_delivery_in_it_nothing_could_end(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "insert", lambda *_: None)

    refused(engine, lambda connection: endings.discard(connection, UNBATCHED, [ID], ERROR, 5))


def test_a_delivery_that_is_owed_is_not_deleted(engine: sa.Engine) -> None:
    discard(engine, 5)

    refused(engine, lambda connection: connection.execute(sa.text("DELETE FROM deliveries")))


def test_a_request_is_not_taken_out_of_its_delivery(engine: sa.Engine) -> None:
    discard(engine, 5)

    taken = sa.text("UPDATE deliveries SET progress = 'x', pending = 0")
    refused(engine, lambda connection: connection.execute(taken))


def test_a_request_can_be_erased_together_with_its_delivery(engine: sa.Engine) -> None:
    discard(engine, 5)
    deliver(engine)

    with write(engine) as connection:
        assert erasure.erase_request(connection, ID)["deliveries"] == 1


def test_a_request_that_is_retried_ends_again_with_a_delivery_of_its_own(engine: sa.Engine) -> None:
    discard(engine, 5)
    deliver(engine)
    retry(engine)

    discard(engine, 20)


def test_the_delivery_of_its_end_before_is_not_enough(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    discard(engine, 5)
    deliver(engine)
    change(engine, "UPDATE requests SET state = 'batched', finished_at = NULL")

    monkeypatch.setattr(deliveries, "insert", lambda *_: None)

    refused(engine, lambda connection: endings.discard(connection, UNBATCHED, [ID], ERROR, 20))


def test_it_binds_in_whichever_process_opens_the_database(engine: sa.Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    another = open_engine(url)

    refused(another, lambda connection: connection.execute(sa.text(END)))
    another.dispose()
