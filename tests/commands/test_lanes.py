"""`carpool lanes`, `flush`, `pause` and `resume`: what an operator does with lanes is obeyed."""

from __future__ import annotations

from contextlib import closing

import pytest
from tests.fixtures.agents import IN_AN_HOUR, MODEL, SUBMIT_POLICY, Carpool, request
from tests.fixtures.command_line import fits_80_columns, rows, run, succeeded
from tests.fixtures.queries import batch_ids

from carpool import Producer
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.commands.completion import complete_lane
from carpool_worker.pipeline.submission import submitter
from carpool_worker.simulator import Fault, RemoteSimulator

pytestmark = pytest.mark.usefixtures("command_line")

SONNET = "claude-sonnet-4-5"
NO_CREDIT = Fault(operation="create", kind="error", status=402)


def given(carpool: Carpool, producer: Producer, *models: str) -> None:
    producer.enqueue_many([request("SECRET", model) for model in models])
    carpool.aggregate()


def states(carpool: Carpool) -> dict[str, str]:
    return {row.model: row.state for row in carpool.rows("SELECT model, state FROM batches")}


def test_nothing_goes_from_a_paused_lane_until_it_is_resumed(carpool: Carpool, producer: Producer) -> None:
    # Given two lanes, one of them paused
    given(carpool, producer, MODEL, SONNET)
    assert succeeded("pause", MODEL, "--reason", "over budget") == f"Paused: {MODEL}\n"

    # When all that waits is over, even for a probe
    for _ in range(2):
        carpool.forget_waiting()
        carpool.submit()

    # Then the other lane alone went
    assert states(carpool) == {MODEL: "sealed", SONNET: "in_progress"}
    [waiting] = [row["waiting_for"] for row in rows("batches") if row["model"] == MODEL]
    assert waiting == "its lane, paused by an operator: over budget (until it is resumed)"

    # And once resumed, it goes too
    assert succeeded("resume", MODEL) == f"Resumed: {MODEL}\n"
    assert succeeded("resume", MODEL) == f"It was not paused: {MODEL}\n"
    carpool.submit()
    assert states(carpool)[MODEL] == "in_progress"


class PausedMeanwhile(Claude):
    """An operator pauses the lane while the API is asked for its newest batch, or while it takes the post."""

    def __init__(self, during: str) -> None:
        super().__init__()
        self._during = during

    def newest(self, *arguments: object) -> list[RemoteBatch]:
        if self._during == "list":
            succeeded("pause", MODEL)
        return super().newest(*arguments)  # type: ignore[arg-type]

    def create(self, *arguments: object) -> object:  # type: ignore[override]
        if self._during == "create":
            succeeded("pause", MODEL)
        return super().create(*arguments)  # type: ignore[arg-type]


def submit_with_a_pause(carpool: Carpool, during: str) -> None:
    [batch_id] = batch_ids(carpool.engine)
    with closing(PausedMeanwhile(during)) as claude:
        submitter.submit(carpool.engine, claude, batch_id, SUBMIT_POLICY)


@pytest.mark.parametrize(("during", "state"), [("list", "sealed"), ("create", "in_progress")])
@pytest.mark.parametrize("probing", [False, True], ids=["plain", "a probe"])
def test_a_pause_in_the_middle_of_a_submission_is_kept_whatever_comes_of_that(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, during: str, state: str, probing: bool
) -> None:
    given(carpool, producer, MODEL)
    if probing:
        simulator.arm(NO_CREDIT)
        carpool.submit()
        carpool.forget_waiting()

    submit_with_a_pause(carpool, during)

    assert states(carpool) == {MODEL: state}
    assert [row["paused_by_operator"] for row in rows("lanes")] == [True]


def test_trouble_that_shows_after_an_operators_pause_changes_nothing_about_it(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given(carpool, producer, MODEL)
    simulator.arm(NO_CREDIT)

    submit_with_a_pause(carpool, "create")

    [lane] = rows("lanes")
    assert (lane["paused_by_operator"], lane["reason"]) == (True, "no reason given")
    assert states(carpool) == {MODEL: "sealed"}


def test_a_pause_that_carpool_began_can_be_made_an_operators_and_can_be_ended(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    given(carpool, producer, MODEL)
    simulator.arm(NO_CREDIT)
    carpool.submit()
    assert [row["paused_by_operator"] for row in rows("lanes")] == [False]

    succeeded("pause", MODEL, "--reason", "asked the bank")
    [lane] = rows("lanes")
    assert (lane["paused_by_operator"], lane["reason"]) == (True, "asked the bank")

    succeeded("resume", MODEL)
    carpool.submit()
    assert states(carpool) == {MODEL: "in_progress"}


def test_lanes_shows_what_each_holds_within_80_columns(carpool: Carpool, producer: Producer) -> None:
    carpool.limits = IN_AN_HOUR
    given(carpool, producer, MODEL, MODEL, SONNET)
    succeeded("flush", "--model", SONNET)
    succeeded("pause", SONNET)

    shown = succeeded("lanes")

    assert fits_80_columns(shown)
    assert "paused by an operator: no reason given" in shown
    held = {row["lane"]: (row["open_requests"], row["sealed_requests"]) for row in rows("lanes")}
    assert held == {MODEL: (2, 0), SONNET: (0, 1)}


def test_flush_seals_what_is_open_of_the_lanes_that_are_named(carpool: Carpool, producer: Producer) -> None:
    # Given open batches that would wait for an hour
    carpool.limits = IN_AN_HOUR
    given(carpool, producer, MODEL, SONNET, "claude-opus-4-5")

    # When, Then
    assert succeeded("flush", "--lane", MODEL).endswith(f"  {MODEL}\n1 batch sealed.\n")
    assert states(carpool) == {MODEL: "sealed", SONNET: "open", "claude-opus-4-5": "open"}
    assert succeeded("flush", "--model", SONNET).endswith("1 batch sealed.\n")
    assert succeeded("flush").endswith("1 batch sealed.\n")
    assert succeeded("flush") == "0 batches sealed.\n"
    assert set(states(carpool).values()) == {"sealed"}


def test_a_lane_that_nobody_knows_is_an_error_that_names_the_others(
    carpool: Carpool, producer: Producer
) -> None:
    assert succeeded("lanes") == "No lane has work, and none is paused.\n"
    assert run("pause", MODEL).output == f"carpool: there is no lane '{MODEL}': no batch has been made yet\n"
    given(carpool, producer, MODEL)
    for command in ("pause", "resume"):
        result = run(command, "claude-haiku")
        assert result.exit_code == 1
        assert f"there is no lane 'claude-haiku': did you mean '{MODEL}'?" in result.output
    assert run("pause").exit_code == 2


def test_idle_lanes_are_found_by_name_and_completed(carpool: Carpool, producer: Producer) -> None:
    given(carpool, producer, MODEL)
    carpool.until(lambda: carpool.ended(1))

    assert rows("lanes") == []
    assert [row["lane"] for row in rows("lanes", "--all")] == [MODEL]
    assert complete_lane("claude-h") == [MODEL]
    assert "`carpool lanes --all` lists them" in run("pause", "gpt").output
    assert fits_80_columns(succeeded("lanes", "--all"))
