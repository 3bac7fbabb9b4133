"""Trying it beside the simulator: params checked as a producer checks them, the way, the webhook, and faults."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, claudes, simulator
from tests.fixtures.console import Browser, running_console, signed_on
from tests.fixtures.waiting import until

from carpool.webhooks import verify
from carpool_worker.claude.client import Claude
from carpool_worker.settings import Settings
from carpool_worker.simulator import RemoteSimulator

__all__ = ["claudes", "simulator"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PARAMS = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}
ID = re.compile(r"id=([0-9a-f]{32})$")


@pytest.fixture(scope="module")
def url(console_settings: Settings, console_engine: sa.Engine) -> Iterator[str]:
    """A console that signs webhooks."""
    settings = Settings.model_validate(
        {**console_settings.model_dump(exclude_unset=True), "webhook_secret": [SECRET]}
    )
    with running_console(settings, console_engine) as found:
        yield found


@pytest.fixture
def anna(url: str, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch) -> Browser:
    """Somebody who has signed on to a console beside a simulator."""
    monkeypatch.setenv("CARPOOL_SIMULATOR_URL", simulator.url)
    return signed_on(url, name="anna")


@pytest.fixture
def agents(
    console_engine: sa.Engine, module_redis_url: str, simulator: RemoteSimulator, claudes: None
) -> Iterator[Carpool]:
    with redis.Redis.from_url(module_redis_url) as server:
        yield Carpool(console_engine, server, Claude())


def test_a_request_is_watched_to_its_signed_webhook(anna: Browser, agents: Carpool) -> None:
    # When
    sent = anna.post("/try", {"params": json.dumps(PARAMS), "client": "books"})

    # Then
    found = ID.search(sent.url)
    assert found, sent.text
    id_ = found[1]
    assert "is in the inbox" in sent.text

    # When it goes its way
    def page() -> str:
        agents.go_round()
        return anna.get(f"/try?id={id_}").text

    until(lambda: "completed" in page())

    # Then
    assert "enqueued by books for claude-haiku-4-5" in page()
    assert "[simulated" not in page()  # an answer is content
    shown = anna.post("/try/webhook", {"id": id_}).text
    headers = dict(re.findall(r"(webhook-[a-z]+): (\S+)", html.unescape(shown)))
    assert headers["webhook-id"] == id_
    body = html.unescape(shown.split('<pre class="webhook">')[2].split("</pre>")[0])
    compact = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
    assert verify(compact, headers, SECRET)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("{", "params: not JSON"),
        ("[]", "params: must be a JSON object"),
        (json.dumps({**PARAMS, "stream": True}), "stream"),
        (json.dumps({**PARAMS, "max_tokens": 0}), "max_tokens"),
    ],
)
def test_params_are_checked_at_the_door_and_stay_in_the_form(anna: Browser, params: str, said: str) -> None:
    answer = anna.post("/try", {"params": params, "client": "books"})

    assert answer.status == 400
    alert = answer.text.split('role="alert"')[1].split("</p>")[0]
    assert said in html.unescape(alert)
    assert html.escape(params) in answer.text.replace("&#34;", "&quot;")


def test_faults_are_armed_by_name_and_disarmed(anna: Browser, simulator: RemoteSimulator) -> None:
    # When
    armed = anna.post("/try/arm", {"fault": "overloaded"})
    anna.post("/try/arm", {"fault": "refusal"})

    # Then
    assert "Armed: the next 3 batches are refused with 529" in armed.text
    assert "create: error 529, 3 times" in armed.text
    assert [(one.status, one.times) for one in simulator.waiting_faults()] == [(529, 3)]
    assert "20 % of the requests: refused" in anna.get("/try").text

    # When
    anna.post("/try/disarm", {})

    # Then
    assert simulator.waiting_faults() == []
    assert "Nothing is armed" in anna.get("/try").text
    assert anna.post("/try/arm", {"fault": "plague"}).status == 400


def test_where_requests_cost_money_there_is_no_such_page(operator: Browser) -> None:
    assert "Try it" not in operator.get("/").text
    assert operator.get("/try").status == 404
    assert operator.post("/try", {"params": json.dumps(PARAMS), "client": "books"}).status == 404
    assert operator.post("/try/webhook", {"id": "0" * 32}).text.count("with its simulator") == 1
