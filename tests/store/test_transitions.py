"""Each transition of a batch has one function, which knows its source states and the columns it sets and clears."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from carpool_worker.database import read, write
from carpool_worker.models import Batch
from carpool_worker.models.tables import batches
from carpool_worker.states import (
    ACCEPT,
    BATCH_TRANSITIONS,
    CANCEL_BATCH,
    COMPLETE_BATCH,
    DISSOLVE,
    END,
    FINISHED_BATCH_STATES,
    POSTPONE,
    REJECT,
    RELEASE,
    SEAL,
    SUBMIT,
    BatchState,
    Transition,
)
from carpool_worker.store.batches import rows, transitions
from carpool_worker.store.batches.filling import FRESH
from carpool_worker.units import Milliseconds

AT = Milliseconds(1_800_000_000_000)
ID = "b" * 32
BEFORE: dict[str, Any] = FRESH | {
    "id": ID,
    "lane": "lane",
    "model": "claude-haiku-4-5",
    "headers": "{}",
    "opened_at": 1,
    "request_count": 3,
    "submissions": 2,
    "due_at": 7,
    "claude_id": "msgbatch_1",
    "disowned_ids": '["msgbatch_0"]',
    "poster": "another key",
    "unseen_since": 5,
    "in_doubt_at": 5,
    "search_started_at": 6,
    "ended_at": 8,
    "last_error": "overloaded",
}
COUNTS = {"succeeded": 1, "errored": 1, "canceled": 1, "expired": 0}

Move = Callable[[sa.Connection, Batch], bool]

MOVES: dict[Transition[BatchState], tuple[Move, dict[str, Any]]] = {
    SEAL: (lambda connection, batch: transitions.seal(connection, batch.id, AT), {"sealed_at": AT}),
    SUBMIT: (
        lambda connection, batch: transitions.submit(
            connection, batch, cursor_id="msgbatch_9", cursor_at=4, looked_at=5, poster="a key", at=AT
        ),
        {
            "submissions": 3,
            "submitting_at": AT,
            "cursor_id": "msgbatch_9",
            "cursor_at": 4,
            "poster": "a key",
            "unseen_since": None,
            "looked_at": 5,
            "in_doubt_at": None,
            "search_started_at": None,
        },
    ),
    ACCEPT: (
        lambda connection, batch: transitions.accept(
            connection, batch.id, claude_id="msgbatch_2", expires_at=9, in_doubt_at=None, at=AT
        ),
        {
            "claude_id": "msgbatch_2",
            "in_progress_at": AT,
            "expires_at": 9,
            "in_doubt_at": None,
            "last_error": None,
        },
    ),
    POSTPONE: (
        lambda connection, batch: transitions.postpone(connection, batch.id, 2, error="529", due_at=AT),
        {"due_at": AT, "in_doubt_at": None, "search_started_at": None, "last_error": "529"},
    ),
    REJECT: (
        lambda connection, batch: transitions.reject(connection, batch.id, error="413", at=AT),
        {"finished_at": AT, "last_error": "413"},
    ),
    CANCEL_BATCH: (lambda connection, batch: transitions.cancel(connection, batch.id), {}),
    END: (
        lambda connection, batch: transitions.end(connection, batch.id, **COUNTS, at=AT),
        {"ended_at": AT, "due_at": 0, **COUNTS},
    ),
    RELEASE: (
        lambda connection, batch: transitions.release(connection, batch, AT),
        {
            "claude_id": None,
            "disowned_ids": '["msgbatch_0", "msgbatch_1"]',
            "in_doubt_at": AT,
            "search_started_at": None,
            "ended_at": None,
        },
    ),
    COMPLETE_BATCH: (
        lambda connection, batch: transitions.complete(connection, batch.id, AT),
        {"finished_at": AT, "last_error": None},
    ),
    DISSOLVE: (
        lambda connection, batch: transitions.dissolve(connection, batch.id, AT),
        {"finished_at": AT, "last_error": None},
    ),
}


def insert(engine: sa.Engine, state: BatchState) -> Batch:
    finished = {"finished_at": 9} if state in FINISHED_BATCH_STATES else {}
    with write(engine) as connection:
        connection.execute(sa.insert(batches), BEFORE | {"state": state} | finished)
    return loaded(engine)


def loaded(engine: sa.Engine) -> Batch:
    with read(engine) as connection:
        batch = rows.get(connection, ID)
    assert batch is not None
    return batch


def test_every_transition_has_its_function() -> None:
    assert set(MOVES) == set(BATCH_TRANSITIONS)


@pytest.mark.parametrize("transition", BATCH_TRANSITIONS, ids=lambda transition: str(transition.verb))
def test_a_transition_sets_its_columns_and_no_other(
    engine: sa.Engine, transition: Transition[BatchState]
) -> None:
    move, changes = MOVES[transition]
    before = insert(engine, transition.sources[0])

    with write(engine) as connection:
        assert move(connection, before)

    assert loaded(engine).model_dump() == before.model_dump() | changes | {"state": transition.target}


@pytest.mark.parametrize("transition", BATCH_TRANSITIONS, ids=lambda transition: str(transition.verb))
def test_a_transition_starts_from_its_source_states_only(
    engine: sa.Engine, transition: Transition[BatchState]
) -> None:
    move, _ = MOVES[transition]
    for state in BatchState:
        before = insert(engine, state)
        with write(engine) as connection:
            assert move(connection, before) == (state in transition.sources)
            connection.execute(sa.delete(batches))


@pytest.mark.parametrize("changed", [{"submissions": 3}, {"request_count": 2}])
def test_a_batch_that_changed_since_it_was_read_is_not_submitted(
    engine: sa.Engine, changed: dict[str, int]
) -> None:
    before = insert(engine, BatchState.SEALED)

    with write(engine) as connection:
        connection.execute(sa.update(batches).values(changed))
        assert not transitions.submit(
            connection, before, cursor_id=None, cursor_at=None, looked_at=None, poster=None, at=AT
        )


def test_a_batch_that_was_posted_again_is_not_postponed(engine: sa.Engine) -> None:
    insert(engine, BatchState.SUBMITTING)

    with write(engine) as connection:
        assert not transitions.postpone(connection, ID, 1, error="529")
