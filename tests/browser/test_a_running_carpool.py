"""The console of a real `carpool up`, by its link: each act is clicked, and the tables tell what became of it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect
from tests.acceptance.conftest import Carpool, until, up, wait_until_ready
from tests.browser.conftest import Visit, Visitor, act, assert_said
from tests.fixtures.receiver import Receiver

from carpool import Producer
from carpool_worker.database import open_engine, read
from carpool_worker.processes.data_folder import read_env
from carpool_worker.settings import Settings, read_settings
from carpool_worker.states import DeliveryState, RequestState
from carpool_worker.views import deliveries, lanes, requests
from carpool_worker.views.requests import RequestFilter

pytestmark = pytest.mark.timeout(240)  # a `carpool up` on a busy machine

LANE = "claude-haiku-4-5"
MILLISECONDS = 60_000
PARAMS = {"model": LANE, "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}


@dataclass(frozen=True)
class Running:
    """A `carpool up`, a receiver beside it, and somebody who has followed the link."""

    carpool: Carpool
    engine: sa.Engine
    settings: Settings
    receiver: Receiver
    visitor: Visitor

    @property
    def page(self) -> Page:
        """Their page."""
        return self.visitor.page

    def enqueue(self, callback: str = "") -> str:
        """Enqueue a request on the page for that, and return its id."""
        page = self.visitor.goto("/try")
        page.get_by_label("Webhook for the answer").fill(callback)
        page.get_by_role("button", name="Enqueue").click()
        page.wait_for_url("**/try?id=*")
        return page.url.partition("?id=")[2]

    def in_state(self, state: RequestState) -> list[str]:
        """Return the ids of the requests in a state."""
        with read(self.engine) as connection:
            found = requests.page(connection, self.settings, RequestFilter(state=state), 500)
        return [one.id for one in found]

    def delivery(self, id_: str) -> DeliveryState:
        """Return the state of the delivery of a request's answer."""
        with read(self.engine) as connection:
            return deliveries.find(connection, id_).state

    def stopped(self) -> list[str]:
        """Return the URLs to which nothing is sent."""
        with read(self.engine) as connection:
            return [one.url for one in deliveries.failing_endpoints(connection) if one.stopped_at]

    def answers_to(self, secret: str) -> int:
        """Return the gateway's status to a call with a key."""
        call = urllib.request.Request(f"{self.carpool.gateway_url}/v1/messages/batches")
        call.add_header("x-api-key", secret)
        call.add_header("anthropic-version", "2023-06-01")
        try:
            with urllib.request.urlopen(call, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture(scope="module")
def carpool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carpool]:
    """A whole Carpool with its simulator."""
    data: Path = tmp_path_factory.mktemp("up") / "carpool"
    with up(data, "--any-port", "--latency", "1", "--concurrency", "2") as process:
        wait_until_ready(process)
        yield Carpool.of(process, data)


@pytest.fixture
def running(carpool: Carpool, visit: Visit, receiver: Receiver) -> Iterator[Running]:
    """It, and somebody at its console; nothing was wrong on any page in the end."""
    link = read_env(carpool.data)["CARPOOL_CONSOLE_URL"]
    parts = urlsplit(link)
    visitor = visit(f"{parts.scheme}://{parts.netloc}", signed_on=None)
    visitor.page.set_default_timeout(MILLISECONDS)
    visitor.page.goto(link)
    visitor.page.get_by_role("button", name="Sign off").wait_for()
    engine = open_engine(carpool.database_url)
    settings = read_settings(redis_url=carpool.redis_url, database_url=carpool.database_url)
    yield Running(carpool, engine, settings, receiver, visitor)
    engine.dispose()
    assert visitor.wrong == []


def test_a_request_is_enqueued_and_seen_to_travel_and_its_contents_are_revealed(running: Running) -> None:
    # When a request is enqueued
    id_ = running.enqueue(running.receiver.url("/well"))
    page = running.page
    page.evaluate("() => { window.stayed = true; }")

    # Then its way is shown until its answer is delivered, on the same page
    way = page.locator("#way")
    expect(way).to_contain_text("completed", timeout=MILLISECONDS)
    expect(way).to_contain_text("delivered", timeout=MILLISECONDS)
    assert page.evaluate("() => window.stayed")
    [(headers, _)] = running.receiver.posts["/well"]
    assert headers["webhook-id"] == id_

    # And the webhook is shown as it was sent, and the request with its prompt, to whoever asks for them
    way.get_by_role("button", name="Show the signed webhook").click()
    expect(page.locator("main")).to_contain_text("webhook-signature: v1,")
    running.visitor.goto(f"/requests/{id_}")
    act(page, "Reveal")
    expect(page.locator("main")).to_contain_text("Say hello in five languages.")


def test_a_lane_is_paused_what_waits_in_it_is_canceled_and_it_is_resumed_from_the_overview(
    running: Running,
) -> None:
    # Given a lane that was paused, with a request that waits in it
    page = running.visitor.goto("/lanes")
    act(page, "Pause", Why="the prompts are looked at")
    assert_said(page, f"Paused: {LANE}")
    assert paused(running) == ["the prompts are looked at (password)"]
    first = running.enqueue()
    until(lambda: first in running.in_state(RequestState.BATCHED))

    # When it is canceled, then it is
    running.visitor.goto(f"/requests/{first}")
    act(page, "Cancel", "Cancel the request")
    assert_said(page, "1 request canceled")
    assert first in running.in_state(RequestState.CANCELED)

    # When the batch of another one is, then that one is, too
    second = running.enqueue()
    until(lambda: second in running.in_state(RequestState.BATCHED))
    running.visitor.goto(f"/requests/{second}")
    page.locator("#facts a[href^='/batches/']").click()
    act(page, "Cancel", "Cancel its requests")
    assert_said(page, "1 request canceled")
    assert second in running.in_state(RequestState.CANCELED)

    # And the card of the overview resumes the lane
    card = page.locator(".need").filter(has_text=f"Lane {LANE} is paused")
    until(lambda: running.visitor.goto("/").locator(".need").filter(has_text=f"Lane {LANE}").count())
    card.get_by_role("button", name="Resume").click()
    page.locator("[popover]:popover-open").get_by_role("button", name="Resume").click()
    assert_said(page, f"Resumed: {LANE}")
    assert paused(running) == []
    third = running.enqueue()
    until(lambda: third in running.in_state(RequestState.COMPLETED))


def test_a_fault_is_armed_and_what_it_made_fail_is_retried_alone_and_as_a_group(running: Running) -> None:
    # Given a fault that was armed
    page = running.visitor.goto("/try")
    page.get_by_role("button", name="Arm invalid").click()
    assert_said(page, "Armed: a fifth of the requests are invalid")

    # When requests are enqueued, then some fail for good
    with Producer(running.carpool.redis_url, client="practice") as producer:
        list(producer.enqueue_many([PARAMS] * 40))
    until(lambda: len(running.in_state(RequestState.COMPLETED)) > 20)
    until(lambda: not running.in_state(RequestState.BATCHED))
    failed = running.in_state(RequestState.DISCARDED)
    assert len(failed) > 1

    # When it is disarmed, and one of them retried, then it completes
    page.get_by_role("button", name="Disarm all").click()
    assert_said(page, "All faults are disarmed")
    running.visitor.goto(f"/requests/{failed[0]}")
    act(page, "Retry")
    assert_said(page, "It will be tried again")
    until(lambda: failed[0] in running.in_state(RequestState.COMPLETED))

    # And when the group is, then all do
    running.visitor.goto("/errors")
    page.get_by_role("link", name="Retry invalid_request_error of practice").click()
    page.get_by_role("button", name="Retry").click()
    assert_said(page, "will be tried again")
    until(lambda: not running.in_state(RequestState.DISCARDED))
    until(lambda: set(failed) <= set(running.in_state(RequestState.COMPLETED)))


def test_a_receiver_is_tested_started_sent_its_dead_letters_and_stopped(running: Running) -> None:
    # Given a receiver that is gone, and has a dead letter
    url, post = running.receiver.url("/gone"), running.receiver.posts["/gone"]
    running.receiver.answer("/gone", 410, text="moved away")
    id_ = running.enqueue(url)
    until(lambda: running.stopped() == [url])
    assert running.delivery(id_) is DeliveryState.DISCARDED

    # When it is tested, then its answer is said
    page = running.visitor.goto("/deliveries")
    row = page.get_by_role("region", name="Receivers").get_by_role("row").filter(has_text=url)
    expect(row).to_contain_text("stopped")
    act(row, "Test")
    assert_said(page, "answered 410")
    assert len(post) == 2

    # When it takes answers again, and is started, then it is no longer stopped
    running.receiver.answer("/gone", 200)
    act(row, "Start")
    assert_said(page, "gets answers again")
    assert running.stopped() == []
    assert running.delivery(id_) is DeliveryState.DISCARDED

    # When its dead letters are replayed, then they are delivered
    running.visitor.goto("/deliveries")
    act(row, "Replay")
    assert_said(page, "1 delivery is due again")
    until(lambda: running.delivery(id_) is DeliveryState.DELIVERED)
    assert post[-1][0]["webhook-id"] == id_

    # And when it is stopped, then it is
    running.visitor.goto("/deliveries")
    act(row, "Stop", Why="it moves")
    assert_said(page, f"Nothing is sent to {url}")
    assert running.stopped() == [url]


def test_a_key_opens_the_gateway_until_it_is_rotated_and_revoked(running: Running) -> None:
    # When a key is made, then the gateway takes it
    page = running.visitor.goto("/clients")
    act(page, "New key", "Create", Client="press")
    first = page.locator("#secret").inner_text()
    until(lambda: running.answers_to(first) == 200)

    # When it is rotated at once, then it takes the new secret, and soon the old one no longer
    running.visitor.goto("/clients")
    row = page.get_by_role("row").filter(has_text="press")
    row.get_by_role("button", name="Rotate").click()
    asked = page.locator("[popover]:popover-open")
    asked.get_by_role("combobox").select_option("at once")
    asked.get_by_role("button", name="Rotate").click()
    page.locator("#secret").wait_for()
    second = page.locator("#secret").inner_text()
    until(lambda: running.answers_to(first) == 401)
    assert running.answers_to(second) == 200

    # And when it is revoked, then neither
    running.visitor.goto("/clients")
    act(row, "Revoke")
    assert_said(page, "Revoked: press")
    until(lambda: running.answers_to(second) == 401)


def paused(running: Running) -> list[str | None]:
    """Return why each paused lane is."""
    with read(running.engine) as connection:
        return [one.reason for one in lanes.active(connection) if one.paused]
