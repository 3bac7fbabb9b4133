"""The transition tables are sound, and the CHECK constraints and diagrams say the same."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
import sqlalchemy as sa

from carpool_worker import states
from carpool_worker.models.tables import batches, deliveries, real_time_calls, requests
from carpool_worker.states import (
    BATCH_TRANSITIONS,
    CALL_TRANSITIONS,
    DELIVERY_TRANSITIONS,
    REQUEST_TRANSITIONS,
    BatchState,
    CallState,
    DeliveryState,
    RequestState,
    Transition,
    diagram,
)

Machine = tuple[type[StrEnum], tuple[Transition[Any], ...], set[str]]

MACHINES: list[Machine] = [
    (BatchState, BATCH_TRANSITIONS, {"completed", "rejected"}),
    (RequestState, REQUEST_TRANSITIONS, {"completed", "canceled"}),
    (DeliveryState, DELIVERY_TRANSITIONS, {"delivered"}),
    (CallState, CALL_TRANSITIONS, {"answered", "refused", "lost", "returned", "canceled"}),
]
TABLES = [
    (batches, BatchState),
    (requests, RequestState),
    (deliveries, DeliveryState),
    (real_time_calls, CallState),
]

each_machine = pytest.mark.parametrize(("members", "transitions", "final"), MACHINES)


@each_machine
def test_every_transition_joins_states_of_its_machine(
    members: type[StrEnum], transitions: tuple[Transition[Any], ...], final: set[str]
) -> None:
    for transition in transitions:
        assert transition.sources
        assert transition.target not in transition.sources
        assert all(type(state) is members for state in (*transition.sources, transition.target))


@each_machine
def test_every_state_can_be_reached_and_only_final_ones_are_never_left(
    members: type[StrEnum], transitions: tuple[Transition[Any], ...], final: set[str]
) -> None:
    reached = {next(iter(members))}
    for _ in members:
        reached |= {one.target for one in transitions if reached & set(one.sources)}
    left = {source for transition in transitions for source in transition.sources}

    assert reached == set(members)
    assert set(members) - left == final


@each_machine
def test_every_transition_is_in_its_table(
    members: type[StrEnum], transitions: tuple[Transition[Any], ...], final: set[str]
) -> None:
    declared = [
        value
        for value in vars(states).values()
        if isinstance(value, Transition) and type(value.target) is members
    ]
    assert declared == list(transitions)


def test_final_states_are_those_that_are_never_left_but_by_hand() -> None:
    left = {source for one in REQUEST_TRANSITIONS if one is not states.RETRY for source in one.sources}
    assert set(states.FINAL_REQUEST_STATES) == set(RequestState) - left
    assert set(states.FINISHED_BATCH_STATES) == MACHINES[0][2]


def test_a_batch_that_anthropic_may_have_is_only_put_back_from_submitting() -> None:
    # Going back to `sealed` means that it is posted again: nothing else may lead there but its first sealing.
    leading = {source for one in BATCH_TRANSITIONS if one.target == "sealed" for source in one.sources}
    assert leading == {BatchState.OPEN, BatchState.SUBMITTING}


def test_the_diagram_shows_each_transition_and_each_end() -> None:
    lines = diagram(REQUEST_TRANSITIONS).splitlines()

    assert lines[:3] == ["stateDiagram-v2", "    direction LR", "    [*] --> batched"]
    assert "    batched --> retryable: reschedule" in lines
    assert "    retryable --> batched: stage" in lines
    assert [line for line in lines if line.endswith("--> [*]")] == [
        "    completed --> [*]",
        "    canceled --> [*]",
    ]


@pytest.mark.parametrize(("table", "members"), TABLES)
def test_the_tables_check_lets_in_the_states_and_no_other(table: sa.Table, members: type[StrEnum]) -> None:
    kind = table.c.state.type

    assert isinstance(kind, sa.Enum)
    [check] = [
        check.sqltext
        for check in table.constraints
        if isinstance(check, sa.CheckConstraint) and str(check.name).endswith("_state")
    ]
    assert str(check) == " OR ".join(f"state = '{member}'" for member in members)
    assert kind.enums == [member.value for member in members]
    assert max(map(len, kind.enums)) <= 16


def test_the_checks_name_the_final_states() -> None:
    checks = {
        str(check.name): str(check.sqltext)
        for table in (batches, requests, deliveries)
        for check in table.constraints
        if isinstance(check, sa.CheckConstraint) and str(check.name).endswith("_at")
    }
    assert checks == {
        "ck_batches_finished_at": "(state = 'completed' OR state = 'rejected') = (finished_at IS NOT NULL)",
        "ck_requests_finished_at": "(state = 'completed' OR state = 'discarded' OR state = 'canceled') "
        "= (finished_at IS NOT NULL)",
        "ck_deliveries_delivered_at": "(state = 'delivered') = (delivered_at IS NOT NULL)",
        "ck_deliveries_discarded_at": "(state = 'discarded') = (discarded_at IS NOT NULL)",
    }
