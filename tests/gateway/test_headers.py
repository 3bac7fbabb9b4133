"""What the headers of programs say: versions and retries of SDKs, end customers, and where answers may go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.fixtures.agents import request
from tests.fixtures.client_batches import body_of
from tests.fixtures.gateway import RunGateway, WorkingCarpool, at_work, new_key
from tests.fixtures.gateway_calls import Reply, at_once, begun, call, get
from tests.fixtures.waiting import until

from carpool_worker.claude.client import Claude
from carpool_worker.simulator import RemoteSimulator

BODY = json.dumps(request()).encode()
AT_ONCE = {"X-Carpool-Max-Wait": "0.01"}
BATCH = body_of({"one": request()})
PROFILE = "anthropic-user-profile-id"

OF_AN_SDK = {
    "x-stainless-lang": "python",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "NOT_GIVEN",
    "x-stainless-timeout": "NOT_GIVEN",
    "anthropic-beta": "anything-2031-01-01",
}


def send(url: str, secret: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    sent = {"content-type": "application/json", **headers}
    return call(url, secret, "POST", path, body, sent)


def test_any_version_and_whatever_sdks_say_of_themselves_is_accepted(
    gateway: str, secret: str, working_carpool: WorkingCarpool
) -> None:
    for version in ("2023-06-01", "2026-10-21", "2031-01-01"):
        # Given the key as a bearer token, as SDKs 2.x send it
        headers = {**OF_AN_SDK, "anthropic-version": version, "authorization": f"Bearer {secret}"}

        replies = [
            send(gateway, "", "/v1/messages?beta=true", BODY, {**headers, **AT_ONCE}),
            send(gateway, "", "/v1/messages/batches?beta=true", BATCH, headers),
            call(gateway, "", "GET", "/v1/messages/batches?beta=true", headers=headers),
            call(gateway, "", "GET", "/v1/carpool/me", headers=headers),
        ]

        assert [reply.status for reply in replies] == [200] * 4
        assert replies[0].json["type"] == "message"


def test_what_is_passed_on_keeps_its_version(gateway: str, secret: str, simulator: RemoteSimulator) -> None:
    versions = ("2023-06-01", "2026-10-21", "2020-01-01")

    statuses = [get(gateway, secret, "/v1/models", anthropic_version=one).status for one in versions]

    assert statuses == [200, 200, 400]


def test_an_end_customer_has_a_lane_and_is_named_to_the_api(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str | None] = []
    create = Claude.create

    def recording(self: Claude, body: Any, length: int, headers: Mapping[str, str], fence: Any) -> Any:
        sent.append(headers.get(PROFILE))
        return create(self, body, length, headers, fence)

    monkeypatch.setattr(Claude, "create", recording)

    # Given equal calls and batches, with an end customer, with another one, and with none
    customers: list[dict[str, str]] = [{PROFILE: "uprof_1"}, {PROFILE: "uprof_2"}, {}]
    with at_once(3) as begin:
        held = [begin(send, gateway, secret, "/v1/messages", BODY, AT_ONCE | one) for one in customers]
        until(lambda: idle_carpool.queued() == 3)
        made = [send(gateway, secret, "/v1/messages/batches", BATCH, one) for one in customers]

        # When all of them run
        with at_work(idle_carpool):
            until(lambda: idle_carpool.ended(6), within=60)

        # Then each customer's requests are in batches of their own, which name them
        assert [one.result().status for one in held] == [200] * 3
    assert [one.status for one in made] == [200] * 3
    assert set(sent) == {"uprof_1", "uprof_2", None}
    assert len(idle_carpool.rows("SELECT DISTINCT lane FROM segments")) == 3


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", BODY), ("/v1/messages/batches", BATCH)])
def test_an_end_customer_that_can_not_be_is_refused(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, path: str, body: bytes
) -> None:
    refused = send(gateway, secret, path, body, {PROFILE: "a b"})

    assert (refused.status, refused.error_type) == (400, "invalid_request_error")
    assert "user_profile_id" in refused.json["error"]["message"]


def until_queued(carpool: WorkingCarpool, count: int) -> None:
    until(lambda: carpool.queued() == count)


def test_calls_that_wait_share_a_batch_for_seconds_only_and_others_as_long_as_they_may(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool
) -> None:
    cases: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
        "held": ({}, {}),
        "streamed": ({}, {"stream": True}),
        "says so itself": ({"X-Carpool-Max-Wait": "90"}, {}),
        "async": ({"prefer": "respond-async"}, {}),
        "called back": ({"X-Carpool-Callback": "task:billing.on_answer"}, {}),
    }
    defaults, hurried = run_gateway(), run_gateway(gateway_max_wait=2)
    with defaults as url, hurried as hurried_url:
        for count, (name, (headers, more)) in enumerate(cases.items(), start=1):
            body = json.dumps(request(name) | more).encode()
            with begun(url, secret, "POST", "/v1/messages", body, headers):
                until_queued(idle_carpool, count)
        with begun(hurried_url, secret, "POST", "/v1/messages", BODY):
            until(lambda: idle_carpool.queued() == len(cases) + 1)
    idle_carpool.aggregate()

    waits = idle_carpool.rows("SELECT submit_by - enqueued_at FROM requests ORDER BY id")

    assert [wait for (wait,) in waits] == [5_000, 5_000, 90_000, None, None, 2_000]


ANSWERS_TO = {
    "https://hooks.example.com/claude": 202,
    "https://Hooks.Example.COM.:8443/claude": 202,
    "https://a.b.example.org/": 202,
    "task:billing.on_answer@billing": 202,
    "https://example.org/": 403,
    "https://evil.example.net/hooks.example.com": 403,
    "https://hooks.example.com.evil.example.net/": 403,
    "https://evil.example.net?@hooks.example.com/": 403,
    "https://evil.example.net#@hooks.example.com/": 403,
    "https://evil.example.net@hooks.example.com/": 400,
    "https://evil.example.net\\@hooks.example.com/": 400,
    "https://[hooks.example.com/": 400,
    "https:///hooks.example.com": 400,
}
"""The status of a call by where its answer is to go, for a key with the hosts hooks.example.com and *.example.org."""


def test_answers_go_to_the_hosts_that_the_key_may_name(gateway: str, idle_carpool: WorkingCarpool) -> None:
    key = new_key(idle_carpool.engine, callback_hosts=["hooks.example.com", "*.example.org"])

    def answered(path: str, body: bytes) -> dict[str, Reply]:
        return {
            target: send(gateway, key, path, body, {"X-Carpool-Callback": target}) for target in ANSWERS_TO
        }

    calls, batches = answered("/v1/messages", BODY), answered("/v1/messages/batches", BATCH)

    assert {target: reply.status for target, reply in calls.items()} == ANSWERS_TO
    # A batch that is created is a 200, as the API has it
    created = {target: 200 if status == 202 else status for target, status in ANSWERS_TO.items()}
    assert {target: reply.status for target, reply in batches.items()} == created
    refused = [reply for reply in (*calls.values(), *batches.values()) if reply.status == 403]
    assert all("callback_hosts" in reply.json["error"]["message"] for reply in refused)
    accepted = list(ANSWERS_TO.values()).count(202)
    assert idle_carpool.queued() == accepted
    assert idle_carpool.rows("SELECT count(*) FROM client_batches") == [(accepted,)]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Carpool-Metadata", "{}"),
        ("X-Carpool-Max-Wait", "90"),
        ("X-Carpool-Deadline", "3600"),
        ("X-Carpool-Deadline-Policy", "batch"),
    ],
)
def test_what_only_a_call_may_say_is_refused_of_a_batch(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, header: str, value: str
) -> None:
    refused = send(gateway, secret, "/v1/messages/batches", BATCH, {header: value})

    assert (refused.status, refused.error_type) == (400, "invalid_request_error")
    assert f"{header}: is for calls of /v1/messages" in refused.json["error"]["message"]
    assert idle_carpool.rows("SELECT id FROM client_batches") == []
