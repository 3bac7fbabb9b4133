"""The pages of errors and of deliveries: what is grouped how, and which receivers take what."""

from __future__ import annotations

import re

from tests.fixtures.busy_console import Busy, busy

__all__ = ["busy"]


def test_errors_are_grouped_with_samples_and_the_reason_without_what_the_client_wrote(busy: Busy) -> None:
    page = busy.look("/errors")

    assert "1 request failed within 24h" in page.words
    [row] = page.rows()
    assert row.startswith("invalid_request_error claude-haiku-4-5 billing 1 ")
    assert row.endswith("tools: '…' is long Retry …")
    [failed] = busy.look(page.link("invalid_request_error")).rows()
    assert failed.split()[0] in row


def test_errors_of_another_client_or_time_are_none(busy: Busy) -> None:
    assert "No request has failed within 24h." in busy.look("/errors?client=another").words
    assert "No request has failed within 0s." in busy.look("/errors?since=0s").words
    assert busy.look("/errors?since=soon").status == 400


def test_receivers_show_their_success_and_those_with_trouble_come_first(busy: Busy) -> None:
    ill, well = busy.look("/deliveries").rows()[:2]

    assert re.match(rf"{re.escape(busy.receiver.url('/ill'))} failing \d+ s ago 0.0 % 0 0 1 0 0 – Stop", ill)
    assert well.startswith(f"{busy.receiver.url('/well')} well 100.0 % 1 0 0 0 0 ")
    assert re.search(r"\d (ms|s)\b", well)


def test_deliveries_are_listed_by_state_and_receiver(busy: Busy) -> None:
    failed = busy.look("/deliveries?state=retryable").rows()
    made = busy.look(f"/deliveries?target={busy.receiver.url('/well')}").rows()

    assert len(failed) == len(made) == 1
    assert "retryable billing" in failed[0]
    assert "delivered billing" in made[0]
    assert "No delivery matches." in busy.look("/deliveries?state=discarded").words


def test_the_latest_tries_have_their_status_and_the_start_of_the_answer(busy: Busy) -> None:
    assert busy.look("/deliveries").rows()[-1].endswith("503 out of order")
