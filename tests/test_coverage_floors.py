"""The floors of coverage: each room's lines and branches together, and a room below its floor is named."""

from __future__ import annotations

from typing import Any

import pytest
from tests.coverage_floors import Room, complaints, room_of, rooms_of


def measured(lines: int, lines_run: int, branches: int, branches_run: int) -> dict[str, Any]:
    names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
    return {"summary": dict(zip(names, (lines, lines_run, branches, branches_run), strict=True))}


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("producer/carpool/client.py", "carpool"),
        ("worker/carpool_worker/app.py", "carpool_worker"),
        ("worker/carpool_worker/store/reports/status.py", "carpool_worker/store"),
    ],
)
def test_a_room_is_a_folder_of_the_worker_its_top_or_the_producer(path: str, room: str) -> None:
    assert room_of(path) == room


def test_a_rooms_files_count_together() -> None:
    files = {
        "worker/carpool_worker/store/usage.py": measured(80, 60, 20, 10),
        "worker/carpool_worker/store/reports/status.py": measured(100, 100, 0, 0),
    }
    rooms = rooms_of(files)
    assert rooms == {"carpool_worker/store": Room(180, 160, 20, 10)}
    assert rooms["carpool_worker/store"].percent == 85


def test_a_room_below_its_floor_is_named_and_one_without_a_floor_or_without_a_room() -> None:
    rooms = {"carpool": Room(100, 90), "carpool_worker": Room(100, 90), "carpool_worker/new": Room(10, 10)}
    floors = {"carpool": 90, "carpool_worker": 91, "carpool_worker/gone": 50}
    assert list(complaints(rooms, floors)) == [
        "carpool_worker is at 90.0 %, below its floor of 91 %",
        "carpool_worker/new has no floor in coverage_floors.toml; it is at 100.0 %",
        "coverage_floors.toml has a floor for carpool_worker/gone, of which nothing was measured",
    ]
