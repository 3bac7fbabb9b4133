"""`carpool enqueue` and `carpool results`: a file of requests, run with two commands."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import run as run_command
from tests.fixtures.queries import answer_bodies
from tests.fixtures.waiting import until
from typer.testing import CliRunner

from carpool import Producer, Webhook
from carpool.contract import INBOX, QUEUED
from carpool.options import DEFAULT_MAX_QUEUED
from carpool_worker import migrations
from carpool_worker.cli import app
from carpool_worker.commands import enqueue
from carpool_worker.files import enqueuer
from carpool_worker.settings import settings
from carpool_worker.simulator import RemoteSimulator, Script

Run = Callable[..., Any]

on_one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What a test looks at comes before any database."""


@pytest.fixture
def run(command_line: None, carpool: Carpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command, on this test's database and Redis, in a folder of its own."""
    monkeypatch.setenv("CARPOOL_CLIENT", "tests")
    monkeypatch.chdir(tmp_path)
    return run_command


def line(custom_id: str, text: str = "Hello") -> dict[str, Any]:
    return {"custom_id": custom_id, "params": request(text)}


def write(path: str, *lines: Any) -> None:
    Path(path).write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))


def read(path: str) -> list[Any]:
    return [json.loads(text) for text in Path(path).read_text().splitlines()]


def test_a_file_runs_with_two_commands(carpool: Carpool, run: Run, simulator: RemoteSimulator) -> None:
    # Given a file with an empty line, a mark of its encoding, and a request that can't be answered
    simulator.script(Script(contains="poison", outcome="errored", error_type="invalid_request_error"))
    write("reviews.jsonl", line("c", "good"), "", line("a", "poison"), line("b", "bad"))
    Path("reviews.jsonl").write_bytes(b"\xef\xbb\xbf" + Path("reviews.jsonl").read_bytes())

    # When
    enqueued = run("enqueue", "-f", "reviews.jsonl")
    carpool.until(lambda: carpool.ended(3))
    fetched = run("results", "reviews", "-o", "answers.jsonl")

    # Then the answers stand there in the file's order, as Anthropic sent them
    assert enqueued.output.splitlines() == [
        "3 requests of client 'tests' enqueued, as run 'reviews'.",
        "Their answers: carpool results --ids reviews.ids.jsonl -o reviews.results.jsonl",
    ]
    assert fetched.output == "3 results in answers.jsonl: 1 errored, 2 succeeded.\n"
    assert (enqueued.exit_code, fetched.exit_code) == (0, 0)
    assert [one["custom_id"] for one in read("answers.jsonl")] == ["c", "a", "b"]
    assert [one["result"]["type"] for one in read("answers.jsonl")] == ["succeeded", "errored", "succeeded"]
    bodies = answer_bodies(carpool.engine)
    expected = b"".join(
        b'{"custom_id":"%s","result":%s}\n' % (one["custom_id"].encode(), bodies[one["id"]])
        for one in read("reviews.ids.jsonl")
    )
    assert Path("answers.jsonl").read_bytes() == expected
    assert sorted(path.name for path in Path().glob("*.part")) == []


def test_enqueued_twice_a_line_runs_once_and_after_a_change_only_what_changed_runs(
    carpool: Carpool, run: Run, simulator: RemoteSimulator
) -> None:
    write("reviews.jsonl", line("a"), line("b"))
    first, second = run("enqueue", "-f", "reviews.jsonl"), run("enqueue", "-f", "reviews.jsonl")
    carpool.until(lambda: carpool.ended(2))
    third = run("enqueue", "-f", "reviews.jsonl")
    carpool.go_round()

    assert [one.exit_code for one in (first, second, third)] == [0, 0, 0]
    assert simulator.ledger()["billed"] == 2

    # When a line was changed, and one came
    write("reviews.jsonl", line("a"), line("b", "changed"), line("d"))
    run("enqueue", "-f", "reviews.jsonl")
    carpool.until(lambda: carpool.ended(4))
    run("results", "reviews", "-o", "answers.jsonl")

    # Then
    assert simulator.ledger()["billed"] == 4
    assert [one["custom_id"] for one in read("answers.jsonl")] == ["a", "b", "d"]

    # When it is run again under another name, Then it enqueues them again
    run("enqueue", "-f", "reviews.jsonl", "--run", "again")
    carpool.until(lambda: carpool.ended(7))


@on_one_database
def test_a_file_has_a_priority_a_longest_wait_and_a_deadline(carpool: Carpool, run: Run) -> None:
    write("reviews.jsonl", line("a"))

    refused = run("enqueue", "-f", "reviews.jsonl", "--max-wait", "0")
    assert (refused.exit_code, "max_wait: must be seconds" in refused.output) == (1, True)
    refused = run("enqueue", "-f", "reviews.jsonl", "--deadline", "0")
    assert (refused.exit_code, "deadline: must be" in refused.output) == (1, True)
    given = ("--priority", "-7", "--max-wait", "60", "--deadline", "7200")
    assert run("enqueue", "-f", "reviews.jsonl", *given).exit_code == 0

    carpool.aggregate()
    [row] = carpool.rows(
        "SELECT priority, submit_by - enqueued_at AS wait, deadline - enqueued_at AS due FROM requests"
    )
    assert tuple(row) == (-7, 60_000, 7_200_000)


@on_one_database
def test_each_bad_line_is_named_and_nothing_is_enqueued(carpool: Carpool, run: Run) -> None:
    # Given
    bad_params = {"custom_id": "b", "params": {**request(), "max_tokens": 0}}
    bad_role = {"custom_id": "c", "params": {**request(), "messages": [{"role": "user", "content": ""}]}}
    foreign = {"custom_id": "d", "method": "POST", "params": request()}
    write(
        "mixed.jsonl",
        line("a"),
        bad_params,
        bad_role,
        foreign,
        line("e f"),
        line("a", "secret"),
        "{secret",
        "[]",
        {"custom_id": "g"},
    )

    # When
    outcome = run("enqueue", "-f", "mixed.jsonl")

    # Then
    assert outcome.exit_code == 1
    assert outcome.stderr.splitlines() == [
        "carpool: nothing was enqueued: 8 lines are invalid:",
        "  line 2: params.max_tokens: must be an integer of 1 or more",
        "  line 3: params.messages[0].content: must be a text that is not empty, or a list of one block or more",
        "  line 4: 'method': is unknown: a line has custom_id and params",
        "  line 5: custom_id: must be 1 to 64 letters, digits, dashes or underscores",
        "  line 6: custom_id: must be unique: line 1 has it too",
        "  line 7: line: must be a JSON object: JSON is malformed: object keys must be strings (byte 1)",
        "  line 8: line: must be a JSON object with custom_id and params",
        "  line 9: params: must be a dict or another mapping, as for the Messages API",
    ]
    assert carpool.server.get(QUEUED) is None
    assert not Path("mixed.ids.jsonl").exists()


@on_one_database
def test_of_many_bad_lines_the_first_are_named_and_the_rest_counted(carpool: Carpool, run: Run) -> None:
    write("bad.jsonl", *["{"] * 1_000)

    outcome = run("enqueue", "-f", "bad.jsonl")

    assert len(outcome.stderr.splitlines()) == 22
    assert outcome.stderr.splitlines()[-1] == "  … and 980 more"


@on_one_database
def test_a_callback_is_told_which_line_it_is(carpool: Carpool, run: Run) -> None:
    write("-.jsonl", line("a"))

    piped = run(
        *("enqueue", "-f", "-", "--run", "piped", "--callback", "https://example.com/hook"),
        *("--metadata", '{"team": 7}', "--ids", "there.jsonl"),
        answer=Path("-.jsonl").read_text(),
    )

    assert piped.exit_code == 0, piped.output
    carpool.aggregate()
    [row] = carpool.rows(
        "SELECT requests.*, callback FROM requests JOIN segments ON segments.id = segment_id"
    )
    assert json.loads(row.metadata) == {"team": 7, "run": "piped", "custom_id": "a"}
    assert json.loads(row.callback) == {"kind": "webhook", "url": "https://example.com/hook"}
    assert read("there.jsonl") == [{"custom_id": "a", "id": row.id}]


def test_a_full_inbox_is_waited_for(
    carpool: Carpool, run: Run, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given room for two entries of the four that the file makes
    monkeypatch.setattr(enqueue, "FULL_SECONDS", 0.01)
    write("many.jsonl", *(line(f"r{number}") for number in range(800)))
    carpool.server.set(QUEUED, DEFAULT_MAX_QUEUED - 450)
    outcomes: list[Any] = []
    waiting = threading.Thread(target=lambda: outcomes.append(run("enqueue", "-f", "many.jsonl")))

    # When a worker takes them
    waiting.start()
    until(lambda: int(carpool.server.get(QUEUED) or 0) == DEFAULT_MAX_QUEUED - 50)
    assert waiting.is_alive()
    until(lambda: not waiting.is_alive(), step=carpool.aggregate)

    # Then all are in, and none twice
    waiting.join()
    assert outcomes[0].exit_code == 0, outcomes[0].output
    carpool.aggregate()
    assert carpool.rows("SELECT count(*) FROM requests") == [(800,)]
    assert carpool.server.xinfo_stream(INBOX)["entries-added"] == 4
    carpool.until(lambda: carpool.ended(800))
    assert simulator.ledger()["ran_twice"] == []


def test_without_wait_it_says_how_far_it_came_and_continues_from_there(
    carpool: Carpool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueuer, "CHUNK_REQUESTS", 300)
    write("many.jsonl", *(line(f"r{number}") for number in range(1_000)))
    carpool.server.set(QUEUED, DEFAULT_MAX_QUEUED - 500)

    stopped = run("enqueue", "-f", "many.jsonl", "--no-wait")

    assert stopped.exit_code == 1
    assert stopped.stderr == (
        "carpool: the inbox has reached its limit of 1,000,000 requests. 500 of 1,000 were enqueued, all before "
        "line 501: go on with --from-line 501\n"
    )

    # When it continues
    carpool.aggregate()
    resumed = run("enqueue", "-f", "many.jsonl", "--from-line", "501")

    # Then all are in
    assert resumed.exit_code == 0, resumed.output
    assert int(carpool.server.get(QUEUED) or 0) == 500
    carpool.aggregate()
    assert carpool.rows("SELECT count(*) FROM requests") == [(1_000,)]
    assert len(read("many.ids.jsonl")) == 1_000


@on_one_database
def test_a_redis_that_is_away_is_one_line_and_the_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARPOOL_REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    write("one.jsonl", line("a"))

    outcome = run("enqueue", "-f", "one.jsonl")

    assert outcome.exit_code == 1
    assert "Redis at redis://127.0.0.1:1/0 is unavailable" in outcome.stderr
    assert (
        "Connection refused. 0 of 1 were enqueued, all before line 1: go on with --from-line 1"
        in outcome.stderr
    )
    assert len(outcome.stderr.splitlines()) == 1


def test_results_waits_until_the_last_request_has_ended(carpool: Carpool, run: Run) -> None:
    # Given a file that was enqueued and not run yet
    write("reviews.jsonl", line("a"), line("b"))
    run("enqueue", "-f", "reviews.jsonl")
    outcomes: list[Any] = []
    waiting = threading.Thread(target=lambda: outcomes.append(run("results", "reviews", "-o", "out.jsonl")))

    # When one waits for its results
    waiting.start()
    carpool.until(lambda: carpool.ended(2))
    waiting.join(20)

    # Then they come
    assert outcomes[0].exit_code == 0, outcomes[0].output
    assert [one["custom_id"] for one in read("out.jsonl")] == ["a", "b"]


def test_who_does_not_wait_gets_what_there_is_and_an_exit_code_that_says_so(
    carpool: Carpool, run: Run
) -> None:
    write("reviews.jsonl", line("a"), line("b"))
    run("enqueue", "-f", "reviews.jsonl")
    carpool.until(lambda: carpool.ended(2))
    write("reviews.jsonl", line("a"), line("late"), line("b"))
    run("enqueue", "-f", "reviews.jsonl")

    outcome = run("results", "reviews", "-o", "out.jsonl", "--no-wait")

    assert outcome.exit_code == 1
    assert outcome.stderr.splitlines() == [
        "2 results in out.jsonl: 2 succeeded.",
        "carpool: 1 request has not ended yet: run this again",
    ]
    assert [one["custom_id"] for one in read("out.jsonl")] == ["a", "b"]


def test_what_services_enqueued_is_found_by_client_and_day(
    carpool: Carpool, producer: Producer, run: Run, redis_url: str
) -> None:
    # Given requests of two clients, one of them of last week
    first = producer.enqueue(request("first"))
    old = producer.enqueue(request("old"), callback=Webhook("https://example.com/hook"))
    with Producer(redis_url, client="others") as others:
        others.enqueue(request())
    carpool.until(lambda: carpool.ended(3))
    carpool.change(f"UPDATE requests SET enqueued_at = enqueued_at - 604800000 WHERE id = id_of('{old}')")

    # When
    lately, all_of_it = (run("results", "--client", "tests", "--since", since) for since in ("1d", "2w"))

    # Then
    assert [json.loads(text)["custom_id"] for text in lately.stdout.splitlines()] == [first]
    assert [json.loads(text)["custom_id"] for text in all_of_it.stdout.splitlines()] == [old, first]


def test_an_answer_that_is_no_longer_kept_is_an_error_in_the_form_of_the_api(
    carpool: Carpool, run: Run
) -> None:
    write("reviews.jsonl", line("a"))
    run("enqueue", "-f", "reviews.jsonl")
    carpool.until(lambda: carpool.ended(1))
    carpool.change("DELETE FROM answers")

    run("results", "reviews", "-o", "out.jsonl")

    [one] = read("out.jsonl")
    assert one["result"]["type"] == "errored"
    assert one["result"]["error"]["error"]["type"] == "answer_pruned"


@on_one_database
def test_a_file_that_can_not_be_written_whole_leaves_the_one_before(carpool: Carpool, run: Run) -> None:
    # Given results of an earlier run, and ids that end in the middle
    write("reviews.jsonl", line("a"))
    run("enqueue", "-f", "reviews.jsonl")
    carpool.until(lambda: carpool.ended(1))
    write("out.jsonl", "earlier")
    with Path("reviews.ids.jsonl").open("a") as ids:
        ids.write('{"custom_id": "b", "id": "01a2"}\n')

    # When
    outcome = run("results", "reviews", "-o", "out.jsonl")

    # Then
    assert outcome.exit_code == 1
    assert "reviews.ids.jsonl, line 2" in outcome.stderr
    assert read_text("out.jsonl") == "earlier\n"


def read_text(path: str) -> str:
    return Path(path).read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["enqueue", "-f", "nowhere.jsonl"], "nowhere.jsonl can't be read: No such file"),
        (["enqueue", "-f", "-"], "--run: name the run, as stdin has no name"),
        (["enqueue", "-f", "empty.jsonl"], "the file has no requests"),
        (["enqueue", "-f", "one.jsonl", "--run", "a b"], "--run a b: must be"),
        (["enqueue", "-f", "one.jsonl", "--client", "a b"], "client: must be"),
        (["enqueue", "-f", "one.jsonl", "--callback", "http://example.com"], "callback"),
        (["enqueue", "-f", "one.jsonl", "--metadata", "7"], "--metadata: must be a JSON object"),
        (["enqueue", "-f", "one.jsonl", "--ids", "no/where"], "no/where can't be written"),
        (["results"], "name either a run"),
        (["results", "one", "--client", "tests"], "name either a run"),
        (["results", "never"], "there is no never.ids.jsonl here"),
        (["results", "--ids", "nowhere"], "nowhere can't be read"),
        (["results", "--client", "tests", "--since", "soon"], "--since soon"),
    ],
)
def test_what_they_can_not_do_they_say_in_one_line(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.setenv("CARPOOL_DATABASE_URL", sqlite_url)
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    migrations.upgrade(sqlite_url)
    write("one.jsonl", line("a"))
    write("empty.jsonl", "")

    outcome = CliRunner().invoke(app, arguments)

    settings.cache_clear()
    assert outcome.exit_code == 1
    assert reason in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
