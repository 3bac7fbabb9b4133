"""Flower's options: the defaults for batches, what wins over them, and what it shows of a row's runtime."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest
from celery.events.state import Task
from flower.options import default_options

from carpool_worker.exceptions import WorkerError
from carpool_worker.processes.flower import CONFIG, DEFAULTS, prepare, timed

SHIPPED = (Path(__file__).parents[2] / CONFIG).read_text()
SECRETS: dict[str, Any] = {"basic_auth": [], "auth": "", "auth_provider": None}
EVERYWHERE = "0.0.0.0"


@pytest.fixture(autouse=True)
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Flower's options, as they were before when the test is over; an empty folder and environment."""
    monkeypatch.chdir(tmp_path)
    names = [*SECRETS, *DEFAULTS, "format_task"]
    for name in names:
        monkeypatch.delenv(f"FLOWER_{name.upper()}", raising=False)
    found = [default_options._options[name.replace("_", "-")] for name in names]
    before = [option._value for option in found]
    yield default_options
    for option, value in zip(found, before, strict=True):
        option._value = value


def configure(text: str) -> None:
    CONFIG.parent.mkdir()
    CONFIG.write_text(text)


def test_every_option_stands_in_the_file_with_its_default() -> None:
    # Given config/flower.py as it is shipped, which sets nothing
    untouched: dict[str, Any] = {}
    exec(SHIPPED, untouched)
    assert untouched.keys() <= {"__doc__", "__builtins__"}

    # When the # is taken away from each option, Then each has the default, and none is missing
    text = re.sub(r"^# (\w+ = |    \*|\])", r"\1", SHIPPED, flags=re.MULTILINE)
    found: dict[str, Any] = {}
    exec(text, found)
    assert {name: found[name] for name in found if not name.startswith("__")} == {**SECRETS, **DEFAULTS}


def test_the_environment_wins_over_the_defaults_and_the_file_over_both(
    monkeypatch: pytest.MonkeyPatch, options: Any
) -> None:
    monkeypatch.setenv("FLOWER_READ_ONLY", "false")
    monkeypatch.setenv("FLOWER_MAX_TASKS", "5")
    configure("max_tasks = 7\n")

    prepare("127.0.0.1")

    assert (options.read_only, options.max_tasks, options.natural_time) == (False, 7, True)
    assert max(options.task_runtime_metric_buckets) == 24 * 3_600


@pytest.mark.parametrize("address", [EVERYWHERE, "192.0.2.1", "::"])
def test_beyond_this_machine_it_does_not_start_without_a_password(address: str) -> None:
    with pytest.raises(WorkerError, match="FLOWER_BASIC_AUTH"):
        prepare(address)


def test_a_password_may_be_in_the_environment_or_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    configure('basic_auth = ["ops:secret"]\n')
    prepare(EVERYWHERE)

    CONFIG.unlink()
    default_options.basic_auth = []
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "ops:secret")
    prepare(EVERYWHERE)


def test_a_row_published_again_has_its_runtime_and_one_under_way_what_it_took_so_far() -> None:
    assert timed(Task(name="batch m", started=10.0, succeeded=25.5)).runtime == 15.5
    assert timed(Task(name="batch m", started=time() - 100)).runtime == pytest.approx(100, abs=30)
    assert timed(Task(name="batch m", started=10.0, succeeded=12.0, runtime=7.0)).runtime == 7.0
    assert timed(Task(name="batch m", received=10.0)).runtime is None
    assert timed(Task(name="billing.on_answer", started=10.0)).runtime is None
    assert timed(Task(started=10.0)).runtime is None
