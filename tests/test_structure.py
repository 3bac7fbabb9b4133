"""The structure's check finds what it is there for, and names the file and the rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import structure
from tests.conftest import LONGEST


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with nothing to complain of, in which no name is shared."""
    monkeypatch.setattr(structure, "SHARED_NAMES", {})
    for path in ("producer/carpool/flat.py", "worker/carpool_worker/store/rows.py", "tests/test_flat.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text('"""A module."""\n')
    return tmp_path


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("producer/carpool/flat.py", 250),
        ("worker/carpool_worker/migrations/versions/0005.py", 250),
        ("tests/test_flat.py", 400),
    ],
)
def test_a_file_that_is_too_long_is_named_with_its_lines_and_the_rule(
    house: Path, path: str, most: int
) -> None:
    # Given a file of just as many lines as it may have, Then all is well
    (house / path).parent.mkdir(parents=True, exist_ok=True)
    (house / path).write_text("pass\n" * most)
    assert structure.complaints(house) == []

    # When it has one more, Then it is named
    (house / path).write_text("pass\n" * (most + 1))
    [complaint] = structure.complaints(house)
    folder = path.partition("/")[0]
    assert complaint == (
        f"{path}: {most + 1} lines; a file in {folder}/ has at most {most}: split it by subject"
    )


def test_two_classes_of_one_name_are_named_with_their_places(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    for path in ("producer/carpool/flat.py", "worker/carpool_worker/store/rows.py"):
        (house / path).write_text("class Line:\n    pass\n")

    # Then
    assert structure.complaints(house) == [
        "producer/carpool/flat.py:1: a class Line, and another in worker/carpool_worker/store/rows.py:1; "
        "name each for what it is"
    ]

    # When the name is allowed, Then it is
    monkeypatch.setattr(structure, "SHARED_NAMES", {"Line": "because"})
    assert structure.complaints(house) == []


def test_a_shared_name_that_is_shared_no_longer_is_not_allowed_in_advance(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structure, "SHARED_NAMES", {"Line": "because"})
    [complaint] = structure.complaints(house)
    assert complaint.startswith("tests/structure.py: SHARED_NAMES")


def test_a_complaint_fails_the_check(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert structure.main(house) == 0
    (house / "tests/test_flat.py").write_text("pass\n" * 401)
    assert structure.main(house) == 1
    assert "tests/test_flat.py: 401 lines" in capsys.readouterr().out


def test_the_longest_tests_are_where_the_scheduler_looks_for_them() -> None:
    assert [place for place in LONGEST if not [*structure.ROOT.glob(f"{place.rstrip('/')}*")]] == []
