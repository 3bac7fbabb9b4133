"""The package's docstring is the map of its modules: short, and true."""

from __future__ import annotations

import re
from pathlib import Path

import carpool_worker

ROOT = Path(carpool_worker.__file__).parent
MAP = carpool_worker.__doc__ or ""
MOST_LINES = 40
STAGES = ["inbox", "batching", "submission", "collection", "delivery"]
STAGE = re.compile(r"^(\d)\. `pipeline\.(\w+)`", re.MULTILINE)


def test_it_leads_through_the_stages_in_their_order() -> None:
    assert STAGE.findall(MAP) == [(str(number), stage) for number, stage in enumerate(STAGES, 1)]
    assert len(MAP.splitlines()) <= MOST_LINES


def test_every_module_it_names_exists() -> None:
    here = ROOT
    for line in MAP.splitlines():
        if stage := STAGE.match(line):
            here = ROOT / "pipeline" / stage[2]
        elif line.startswith("-"):
            here = ROOT
        for name in re.findall(r"`([\w.]+)`", line):
            assert exists(ROOT, name) or exists(here, name), name


def test_it_names_every_room() -> None:
    named = {name.partition(".")[0] for name in re.findall(r"`([\w.]+)`", MAP)}
    rooms = {path.stem for path in ROOT.iterdir() if path.is_dir() or path.suffix == ".py"} - {"__init__"}
    assert {room for room in rooms if not room.startswith("__")} <= named


def exists(folder: Path, name: str) -> bool:
    path = folder.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()
