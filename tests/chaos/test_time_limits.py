"""The attacks end by themselves, in the time that they announce, and say what they did not get to."""

from __future__ import annotations

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from random import Random
from threading import Event
from typing import Any
from urllib.request import Request, urlopen

import pytest
from rich.console import Console
from standardwebhooks import Webhook
from tests.chaos import report, time_limits
from tests.chaos.__main__ import Display, announcement, lengths
from tests.chaos.programs import WEBHOOK_SECRET
from tests.chaos.receiver import Receiver
from tests.chaos.runs import Runs
from tests.chaos.scenario import SCENARIOS, Outcome, Scenario
from tests.chaos.stack import Stack
from tests.chaos.time_limits import SLOWEST_REST, OutOfTime, limited, run_limit, whole_limit
from tests.fixtures.waiting import until


def attack(_: Stack) -> None:
    """Nothing: these tests run no stack."""


SHORT = Scenario("short", attack, seconds=0.1)
AS_LONG_AS_TOLD = Scenario("as long as told", attack)


def made(scenario: Scenario, database: str) -> Outcome:
    return Outcome(scenario.name, database, 1)


def hang(*_: Any) -> Outcome:
    try:
        Event().wait()
    except Exception:  # as a scenario might, which must not keep it from ending
        hang()
    raise AssertionError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but attacks takes time."""
    for name in ("SLOWEST_REST", "USUAL_REST"):
        monkeypatch.setattr(time_limits, name, 0.0)


def test_what_hangs_is_ended_when_its_time_is_up() -> None:
    began = time.monotonic()

    with pytest.raises(OutOfTime), limited(0.1):
        hang()

    assert 0.1 <= time.monotonic() - began < 5


def test_a_run_that_fails_is_broken_and_the_others_are_made(quick: None) -> None:
    def fail(scenario: Scenario, database: str) -> Outcome:
        if database == "sqlite":
            raise OSError("no port is free")
        return made(scenario, database)

    runs = Runs([(SHORT, "sqlite"), (SHORT, "postgresql")], 0.1, seed=1)
    runs.make_all(fail)

    assert [outcome.broken for outcome in runs.outcomes] == [
        ["the run itself failed: OSError: no port is free"],
        [],
    ]


def test_what_ends_in_time_is_left_alone() -> None:
    with limited(0.1):
        pass

    Event().wait(0.2)  # a signal would end this test


def test_a_run_that_hangs_is_broken_and_the_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given three runs, the first of which takes longer than one may, though the whole has time enough
    monkeypatch.setattr(time_limits, "SLOWEST_REST", 0.2)
    runs = Runs([(SHORT, "sqlite"), (SHORT, "postgresql"), (AS_LONG_AS_TOLD, "sqlite")], 0.01, seed=1)

    # When
    runs.make_all(lambda scenario, database: (made if runs.outcomes else hang)(scenario, database))

    # Then
    assert [outcome.broken for outcome in runs.outcomes] == [["not over after 0 s"], [], []]
    assert runs.broken == 1
    assert runs.not_reached == []


@pytest.mark.usefixtures("quick")
def test_the_whole_ends_at_its_limit_and_names_what_it_did_not_get_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given three runs, the first of which takes nearly all of the time, and the second hangs
    runs = Runs([(SHORT, "sqlite"), (SHORT, "postgresql"), (AS_LONG_AS_TOLD, "sqlite")], 0.01, seed=1)
    monkeypatch.setattr(time_limits, "SLOWEST_REST", 60.0)  # one run alone may take longer than is left

    def make(scenario: Scenario, database: str) -> Outcome:
        if runs.outcomes:
            hang()
        time.sleep(runs.limit - 0.05)
        return made(scenario, database)

    # When
    began = time.monotonic()
    runs.make_all(make)

    # Then it ends in time, and the report has what was done and what was not
    assert time.monotonic() - began < runs.limit + 2
    assert [outcome.scenario for outcome in runs.outcomes] == ["short"]
    assert runs.not_reached == ["short, postgresql", "as long as told, sqlite"]
    text = report.write(tmp_path, runs).read_text()
    assert "Not reached:\n\n- short, postgresql\n- as long as told, sqlite\n" in text


def test_the_limit_is_that_of_the_attacks_and_of_what_is_usual_besides_and_one_slow_run() -> None:
    planned = [(SHORT, "sqlite"), (AS_LONG_AS_TOLD, "sqlite"), (AS_LONG_AS_TOLD, "postgresql")] * 10

    assert run_limit(AS_LONG_AS_TOLD, 2) == 120 + SLOWEST_REST
    assert whole_limit(planned, 2) == 10 * (0.1 + 2 * 120 + 3 * time_limits.USUAL_REST) + SLOWEST_REST
    assert whole_limit(planned[:1], 2) == run_limit(SHORT, 2)


def test_the_limit_is_announced_and_help_says_what_minutes_mean_for_each_scenario() -> None:
    assert announcement(Runs([(SHORT, "sqlite")], 1, seed=7)).startswith("1 run, 16 min at most;")
    lines = lengths().splitlines()[1:]
    assert [line.strip().startswith(one.name) for line, one in zip(lines, SCENARIOS, strict=True)]
    assert sum("--minutes" in line for line in lines) == sum(one.seconds is None for one in SCENARIOS) == 6


def test_without_a_terminal_each_run_is_a_line_when_it_begins_and_one_when_it_ends() -> None:
    shown = StringIO()
    runs = Runs([(SHORT, "sqlite"), (SHORT, "postgresql")], 1.0, 1)
    with Display(Console(file=shown, width=200), runs) as display:

        def make(scenario: Scenario, database: str) -> Outcome:
            display.begin(f"{scenario.name}, {database}")
            return made(scenario, database)

        runs.make_all(make, display.end)

    first, ended, second, _ = shown.getvalue().splitlines()
    assert re.fullmatch(r"\[1 of 2, over by \d\d:\d\d\] short, sqlite", first)
    assert ended.startswith("kept [1 of 2, over by ")
    assert second.startswith("[2 of 2, ")


def test_the_table_explains_each_of_its_numbers() -> None:
    named = {str(column.header) for column in report.table([made(SHORT, "sqlite")]).columns}
    assert named - {"scenario"} == {line.split()[0] for line in report.LEGEND.splitlines()[:-1]}


class AlwaysHangs(Random):
    """Chooses, of all misdeeds, the one that lasts."""

    def choice(self, seq: Any) -> Any:
        return "hang"


def test_a_receiver_that_is_stopped_while_posts_hang_leaves_no_task() -> None:
    # Given
    receiver = Receiver(WEBHOOK_SECRET)
    receiver.misbehave(1.0, AlwaysHangs())
    at, body = datetime.now(UTC), json.dumps({"data": {"id": "a"}})
    signature = Webhook(WEBHOOK_SECRET).sign("a", at, body)
    headers = {
        "webhook-id": "a",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }
    with ThreadPoolExecutor() as pool:
        post = pool.submit(urlopen, Request(receiver.url, body.encode(), headers), timeout=30)
        until(lambda: receiver.misdeeds)
        # When
        receiver.close()
        # Then: asyncio would complain when it is collected
        assert isinstance(post.exception(), OSError)
    assert not asyncio.all_tasks(receiver._loop)
