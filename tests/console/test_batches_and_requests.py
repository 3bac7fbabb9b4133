"""The pages of batches and of requests: what they show, how they are filtered, and how a list is walked."""

from __future__ import annotations

import pytest
from tests.fixtures.busy_console import Busy, busy

from carpool_worker.console.pages import requests
from carpool_worker.store.reports import request_spans
from carpool_worker.store.reports import requests as reports

__all__ = ["busy"]


def test_batches_are_listed_newest_first_with_what_they_wait_for_and_their_cost(busy: Busy) -> None:
    waiting, ended = busy.look("/batches").rows()

    assert "sealed claude-haiku-4-5" in waiting
    assert waiting.endswith("a worker to post it")
    assert "completed" in ended
    assert "$0.0001" in ended
    assert ended.endswith("2 succeeded, 1 errored")


def test_the_day_has_a_bar_for_each_batch_that_leads_to_it(busy: Busy) -> None:
    page = busy.look("/batches").text

    assert page.count('<span class="phase phase-open"') == 2
    assert f'<li><a href="/batches/{busy.batch("completed")}"' in page


def test_filters_of_batches_are_in_the_url_and_in_the_command(busy: Busy) -> None:
    page = busy.look("/batches?state=completed&since=2h")

    assert len(page.rows()) == 1
    assert "carpool batches --state completed --since 2h" in page.words
    assert "No batch matches." in busy.look("/batches?model=another").words


def test_a_batch_has_its_story_its_clients_and_its_errors(busy: Busy) -> None:
    page = busy.look(f"/batches/{busy.batch('completed')[:20]}")

    assert "ended: 2 succeeded, 1 errored" in page.words
    assert page.rows()[0].startswith("billing 3 3 $")
    assert busy.look(page.link("1 invalid_request_error")).rows()[0].split()[1] == "discarded"
    assert "msgbatch_" in page.words


def test_requests_are_found_by_state_tag_and_error(busy: Busy) -> None:
    assert len(busy.look("/requests").rows()) == 4
    assert len(busy.look("/requests?state=batched").rows()) == 1
    assert len(busy.look("/requests?tag=march&client=billing").rows()) == 1
    assert len(busy.look("/requests?error=invalid_request_error").rows()) == 1
    assert "No request matches." in busy.look("/requests?client=nobody").words


def test_a_request_is_found_by_its_idempotency_key_and_by_the_beginning_of_its_id(busy: Busy) -> None:
    by_key = busy.look("/requests?q=invoice-2")
    by_id = busy.look(f"/requests?q={by_key.url.rpartition('/')[2][:12]}")

    assert by_key.url == by_id.url
    assert "invalid_request_error : tools: '…' is long" in by_key.words
    assert "No request has this id" in busy.look("/requests?q=invoice-3").words


def test_a_request_shows_the_way_it_took_and_each_try_to_deliver_its_answer(busy: Busy) -> None:
    failed = busy.look("/requests?q=invoice-2")
    made = busy.look("/requests?q=invoice-1")

    assert "enqueued by billing for claude-haiku-4-5" in failed.words
    assert failed.rows()[0].endswith("503 out of order")
    assert "Its receiver accepted it at the first try." in made.words
    assert f"carpool requests show {made.url.rpartition('/')[2]}" in made.words


def test_no_page_shows_what_a_client_or_claude_wrote(busy: Busy) -> None:
    [[id_]] = busy.carpool.rows("SELECT id FROM requests WHERE state = 'batched'")

    pages = [busy.look(path).text for path in (f"/requests/{id_}", "/requests", "/requests?q=invoice-2")]

    assert "secret" not in "".join(pages)


def test_a_list_is_walked_by_its_keys_there_and_back(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LIMIT", 3)
    first = busy.look("/requests")

    last = busy.look(first.link("Older"))
    back = busy.look(last.link("Newer"))

    assert (len(first.rows()), len(last.rows())) == (3, 1)
    assert [row.split()[0] for row in back.rows()] == [row.split()[0] for row in first.rows()]
    assert "Older" not in last.words
    assert "Newer" not in first.words


def test_what_is_rare_is_looked_for_in_steps_there_and_back(
    busy: Busy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given that a look goes no further than one batch: the newest has what is not sent
    monkeypatch.setattr(request_spans, "MOST_READ", 1)
    first = busy.look("/requests?state=completed")
    assert "No request matches among those that were looked at." in first.words

    last = busy.look(first.link("Older"))
    back = busy.look(f"/requests?state=batched&after={busy.request('invoice-1')}")

    assert len(last.rows()) == 2
    assert "One look goes so far" not in last.words
    assert "among those that were looked at" in back.words
    assert busy.look(back.link("Newer")).rows() == busy.look("/requests?state=batched").rows()


def test_a_tag_of_many_is_found_as_one_of_few(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"/requests?tag={tag}&since=9d" for tag in ("march", "march&client=billing", "april")]
    monkeypatch.setattr(reports, "FEW_TAGGED", 0)

    assert [len(busy.look(path).rows()) for path in paths] == [1, 1, 0]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/requests?down_from=1", 400, "down_from: has to be an id of 32 hexadecimal digits"),
        (
            f"/requests?down_from={32 * '1'}&up_from={32 * '2'}",
            400,
            "down_from: can't be combined with up_from",
        ),
        ("/batches?state=asleep", 400, "state: there is no 'asleep'; there are open, sealed"),
        ("/batches?colour=red", 400, "there is no filter 'colour' here; there are state, model"),
        ("/requests?since=yesterday", 400, "since: 'yesterday' is no length of time: write 90m"),
        ("/requests?before=1&after=2", 400, "before: can't be combined with after"),
        ("/requests?client=a%07", 400, "client: has to be a line of up to 500 characters"),
        ("/batches/ffffffff", 404, "there is no batch ffffffff"),
        ("/requests/<script>", 404, "there is no request <script>"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_in_a_page(
    busy: Busy, path: str, status: int, sentence: str
) -> None:
    page = busy.look(path)

    assert page.status == status
    assert sentence in page.words
    assert "<script>" not in page.text
