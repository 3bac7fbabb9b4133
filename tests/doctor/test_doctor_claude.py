"""The doctor on Anthropic's API: the key, the tier, and the clocks that it is compared with."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from tests.fixtures.doctor import Doctor

from carpool_worker import migrations
from carpool_worker.doctor import clocks
from carpool_worker.policies.keys import new_secret
from carpool_worker.simulator import Fault, RemoteSimulator, SimulatorOptions, running


def test_a_missing_key_is_found_and_the_simulator_is_named_where_there_is_one(doctor: Doctor) -> None:
    assert (
        "as it is set where the workers run"
        in doctor.finds("claude", "wrong", "ANTHROPIC_API_KEY is not set").mend
    )

    doctor.set(CARPOOL_SIMULATOR_URL="http://127.0.0.1:9")

    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:9" in doctor.finds("claude", "warning", "its simulator").mend


def test_the_simulator_of_a_running_carpool_up_is_no_surprise(
    doctor: Doctor, simulator: RemoteSimulator
) -> None:
    doctor.set(
        ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="simulated", CARPOOL_SIMULATOR_URL=simulator.url
    )

    doctor.finds("claude", "ok", "the simulator of `carpool up`: no money is spent")


def test_a_key_of_the_gateway_is_no_key_of_the_api(doctor: Doctor, simulator: RemoteSimulator) -> None:
    doctor.set(ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY=new_secret())

    doctor.finds("claude", "wrong", "ANTHROPIC_API_KEY is not set")


@pytest.mark.parametrize(
    ("status", "part"),
    [
        (401, "valid"),
        (402, "billing"),
        (403, "workspace"),
        (404, "docs/relays.md"),
        (405, "docs/relays.md"),
        (429, "wait"),
        (529, "outages"),
    ],
)
def test_a_key_that_is_refused_is_found(
    doctor: Doctor, simulator: RemoteSimulator, status: int, part: str
) -> None:
    doctor.set(ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-ant-old")
    simulator.arm(Fault(operation="list", kind="error", status=status))

    one = doctor.finds("claude", "wrong", str(status))

    assert part in one.mend
    assert "sk-ant-old" not in str(one)


def test_an_api_that_can_not_be_reached_is_found(doctor: Doctor) -> None:
    doctor.set(ANTHROPIC_BASE_URL="http://127.0.0.1:1", ANTHROPIC_API_KEY="sk-ant-any")

    doctor.finds("claude", "wrong", "127.0.0.1:1: no answer: ConnectError")


@pytest.mark.parametrize(
    ("calls", "limit", "verdict", "part"),
    [
        (1_000, 500_000, "warning", "the tier Start allows 200,000: batches beyond it are refused"),
        (4_000, 200_000, "warning", "the tier Scale allows 500,000: batches wait needlessly"),
        (2_000, 300_000, "ok", "the tier Build allows 300,000"),
        (7_000, 300_000, "ok", "7,000 calls a minute"),
    ],
)
def test_the_queue_limit_is_compared_with_the_tier_in_the_headers(
    doctor: Doctor, tmp_path: Path, calls: int, limit: int, verdict: str, part: str
) -> None:
    with running(SimulatorOptions(data=tmp_path / "simulator", requests_per_minute=calls)) as simulator:
        doctor.set(
            ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-ant-any", CARPOOL_QUEUE_LIMIT=str(limit)
        )

        doctor.finds("claude", verdict, part)


@pytest.mark.parametrize(("shift", "verdict"), [(-20.0, "warning"), (3_600.0, "wrong")])
def test_a_clock_that_is_wrong_is_found_against_each_other_one(
    doctor: Doctor,
    postgres_url: str,
    simulator: RemoteSimulator,
    monkeypatch: pytest.MonkeyPatch,
    shift: float,
    verdict: str,
) -> None:
    # Given this machine's clock off by so much
    migrations.upgrade(postgres_url)
    doctor.set(
        CARPOOL_DATABASE_URL=postgres_url, ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-ant-any"
    )
    for module in ("clocks", "claude_api"):
        monkeypatch.setattr(f"carpool_worker.doctor.{module}.time", lambda: time.time() + shift)

    # When
    found = [one for one in doctor() if one["check"] == "clock"]

    # Then
    direction = "ahead of" if shift > 0 else "behind"
    assert [one["verdict"] for one in found] == [verdict] * 3
    for one, whose in zip(found, ("Redis", "the database", "Anthropic"), strict=True):
        assert re.search(rf"is \d+ (s|min) {direction} that of {whose}$", one["what"])


def test_a_skew_within_the_uncertainty_of_a_slow_answer_is_none() -> None:
    assert clocks.judge(clocks.Skew("Redis", 4.0, 3.0)).verdict == "ok"
    assert clocks.judge(clocks.Skew("Redis", -6.0, 3.0)).verdict == "warning"
