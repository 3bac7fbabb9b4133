"""Real processes, killed with -9 where it hurts most; `python -m tests.chaos` does so at every point there is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from tests.chaos.crash_points import CALLING, COSTLIEST, strike
from tests.chaos.points import Points
from tests.chaos.scenario import Scenario, run

import carpool_worker

MINUTES = 3.0

costliest = Scenario("costliest", partial(strike, mode="child", points=COSTLIEST))


@pytest.mark.timeout(420)
def test_nothing_is_lost_or_doubled_when_processes_die_at_the_costliest_points() -> None:
    # Given a worker whose processes die, once each, before and after what costs money or commits work
    # When requests of three clients go their way through it, with faults of the API
    outcome = run(costliest, "sqlite", seed=1, minutes=MINUTES)

    # Then each point struck, and no promise was broken
    assert outcome.notes == ["never passed: none"]
    assert sum(kind.startswith("child: ") for kind in outcome.faults) == len(COSTLIEST)
    assert outcome.broken == []


def test_the_functions_of_the_costliest_points_exist() -> None:
    names = [point.rpartition(" in ")[2] for point in (*COSTLIEST, *CALLING) if " in " in point]
    assert names
    for name in names:
        module, _, function = name.partition(".")
        modules = Path(carpool_worker.__path__[0]).rglob(f"{module}.py")
        assert any(f"def {function}(" in path.read_text() for path in modules), name


def test_only_one_process_dies_at_an_armed_point(tmp_path: Path) -> None:
    # Given a point that is armed
    points = Points(tmp_path)
    points.arm(["after commit"], "child")

    # When two processes pass it, Then the first is to die, and the second continues
    assert points.pass_by("after commit") == "child"
    assert points.pass_by("after commit") is None
    assert points.struck == ["after commit"]


def test_every_constant_that_is_shortened_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the constants that let a crash go unnoticed, by module
    monkeypatch.setenv("CHAOS_POINTS", str(tmp_path))
    from tests.chaos.mortal import SHORTENED

    # Then each is still there
    gone = [name for module, names in SHORTENED.items() for name in names if not hasattr(module, name)]
    assert gone == []
