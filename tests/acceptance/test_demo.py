"""`carpool demo`, as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carpool_worker.demo.prompts import DEFAULT_FILES

DEMO = [sys.executable, "-m", "carpool_worker.cli", "demo"]
WITHIN = 200.0


def demo(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo, with its temporary data in the folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    return subprocess.run(
        [*DEMO, *arguments],
        env=clean | {"TMPDIR": str(folder), "COLUMNS": "100"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )


def test_every_client_gets_its_answers_and_a_table_says_what_was_saved(tmp_path: Path) -> None:
    # Given a file to summarise, and settings of another Carpool that the demo must leave alone
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear reader,\nthis letter has one line of prose that is longer than the others.\n")

    # When the demo runs
    run = demo(str(letter), folder=tmp_path, CARPOOL_REDIS_URL="redis://127.0.0.1:1/0")

    # Then all three clients were called back, the table has both models, and its data is gone
    assert run.returncode == 0, run.stdout + run.stderr
    assert "201 completed · 201 called back" in run.stdout
    assert "letter.txt:" in run.stdout
    assert all(
        word in run.stdout for word in ("claude-haiku-4-5", "claude-sonnet-4-5", "200 succeeded", "saved")
    )
    assert list(tmp_path.glob("carpool-demo-*")) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "can't be read"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b" \n", "no text"),
        (b"a" * 200_001, "larger than"),
    ],
)
def test_a_file_that_cannot_be_summarised_is_named_in_one_line(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    # Given a file that is missing, binary, empty or too large
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)

    # When the demo is given that file, Then it says so and starts nothing
    run = demo(str(path), folder=tmp_path)
    assert run.returncode == 1
    assert run.stdout == ""
    assert str(path) in run.stderr
    assert reason in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_in_a_clone_all_the_files_that_it_summarises_are_there() -> None:
    assert [path for path in DEFAULT_FILES if not path.is_file()] == []


def test_nothing_is_spent_on_the_real_api_without_consent(tmp_path: Path) -> None:
    # Given an API key and nobody who could answer a question
    # When the demo runs, Then it says what it would cost at most and stops there
    run = demo(folder=tmp_path, ANTHROPIC_API_KEY="sk-ant-not-a-key", ANTHROPIC_BASE_URL="http://127.0.0.1:1")
    assert run.returncode == 1
    assert "will go to the real API, for $0." in run.stdout
    assert "Nothing was sent" in run.stderr
