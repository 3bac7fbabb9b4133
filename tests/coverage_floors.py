"""What the tests ran of each room, against its floor: `python -m tests.coverage_floors`, the end of `make coverage`.

A room is a folder of `carpool_worker`, its modules at the top together, or `carpool`. Its floor, in
coverage_floors.toml, is a whole percent of its lines and branches together; a room without a floor fails, and so does
a floor without a room. With `--write`, the floors become what was measured, rounded down.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
FLOORS = Path(__file__).with_suffix(".toml")
HEADING = "# Percent of lines and branches that the tests run of each room at least: `make coverage`.\n"
WORKER = "carpool_worker"


@dataclass(frozen=True)
class Room:
    """How many lines and branches a room has, and how many of them were run."""

    lines: int = 0
    lines_run: int = 0
    branches: int = 0
    branches_run: int = 0

    @property
    def percent(self) -> float:
        """The share of its lines and branches that were run."""
        return 100 * (self.lines_run + self.branches_run) / max(self.lines + self.branches, 1)

    def __add__(self, other: Room) -> Room:
        return Room(
            self.lines + other.lines,
            self.lines_run + other.lines_run,
            self.branches + other.branches,
            self.branches_run + other.branches_run,
        )


def room_of(path: str) -> str:
    """Return the room that a file is in: `carpool`, `carpool_worker` for its top, or `carpool_worker/store`."""
    _, package, *rest = Path(path).parts
    return f"{package}/{rest[0]}" if package == WORKER and len(rest) > 1 else package


def rooms_of(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Room]:
    """Return each room, from the files of coverage.py's JSON report."""
    rooms: dict[str, Room] = {}
    for path, measured in sorted(files.items()):
        counts = measured["summary"]
        names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
        name = room_of(path)
        rooms[name] = rooms.get(name, Room()) + Room(*(counts[count] for count in names))
    return rooms


def complaints(rooms: Mapping[str, Room], floors: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence for each room below its floor, and for what has no floor or no room."""
    for name, room in rooms.items():
        if name not in floors:
            yield f"{name} has no floor in coverage_floors.toml; it is at {room.percent:.1f} %"
        elif room.percent < floors[name]:
            yield f"{name} is at {room.percent:.1f} %, below its floor of {floors[name]} %"
    for name in floors.keys() - rooms.keys():
        yield f"coverage_floors.toml has a floor for {name}, of which nothing was measured"


def main(arguments: Sequence[str]) -> int:
    """Print the table of the rooms and what is wrong; return 1 if anything is."""
    rooms = rooms_of(_report()["files"])
    if "--write" in arguments:
        FLOORS.write_text(
            HEADING + "".join(f'"{name}" = {int(room.percent)}\n' for name, room in rooms.items())
        )
    floors = tomllib.loads(FLOORS.read_text())
    found = sorted(complaints(rooms, floors))
    console = Console(width=100)  # a name of a room stays whole
    console.print(_table(rooms, floors))
    console.print("\n".join(found) or "Every room is at its floor or above.")
    return int(bool(found))


def _report() -> Any:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", file.name]
        subprocess.run(command, cwd=ROOT, check=True)
        return json.load(file)


def _table(rooms: dict[str, Room], floors: Mapping[str, int]) -> Table:
    table = Table("room", title="What the tests run of each room")
    for heading in ("lines", "branches", "percent", "floor"):
        table.add_column(heading, justify="right")
    for name, room in (rooms | {"all": sum(rooms.values(), Room())}).items():
        table.add_row(
            name,
            f"{room.lines_run:,} of {room.lines:,}",
            f"{room.branches_run:,} of {room.branches:,}",
            f"{room.percent:.1f}",
            str(floors.get(name, "")),
        )
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
