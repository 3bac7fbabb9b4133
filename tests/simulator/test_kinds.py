"""The faults that can be practised by name."""

from __future__ import annotations

import pytest

from carpool_worker.commands import fault_kinds
from carpool_worker.processes import practices
from carpool_worker.simulator.kinds import KINDS


def test_each_is_explained_and_does_something() -> None:
    assert KINDS.keys() == practices.KINDS.keys()
    assert all(practice.faults or practice.scripts for practice in KINDS.values())


@pytest.mark.parametrize("name", KINDS)
def test_a_name_is_taken_and_completed(name: str) -> None:
    assert fault_kinds.fault_kind(name) == name
    assert (name, practices.KINDS[name]) in fault_kinds.complete_fault(name[:3])
