"""How an answer comes: after spaces, as a stream, or later by its id, as the call prefers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import pytest
from tests.fixtures.agents import request
from tests.fixtures.gateway import ON_BOTH, RunGateway, WorkingCarpool, at_work, new_key
from tests.fixtures.gateway_calls import at_once, begun, call, get, post, sdk
from tests.fixtures.waiting import until

from carpool_worker.simulator import RemoteSimulator
from carpool_worker.simulator.scripts import Script

STREAMED = json.dumps(request("Streamed") | {"stream": True}).encode()
QUICK_PINGS = {"gateway_silence": 0.02, "gateway_ping_interval": 0.05}


@ON_BOTH
def test_a_held_answer_has_spaces_before_it_and_nothing_else_is_different(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool
) -> None:
    with run_gateway(**QUICK_PINGS) as url, at_work(idle_carpool):
        reply = post(url, secret)
        again = post(url, secret, x_stainless_retry_count="1")

    assert reply.status == 200
    assert reply.body.startswith(b" ")
    assert reply.body.strip(b" ") == again.body.strip(b" ")
    assert reply.headers["content-type"] == "application/json"
    assert "content-encoding" not in reply.headers
    assert len(reply.headers["x-carpool-request-id"]) == 32


def test_the_sdk_waits_through_spaces(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    # Given an SDK that would give up a silent connection long before the answer
    with run_gateway(**QUICK_PINGS) as url, sdk(url, secret, timeout=1.0) as client, at_once(1) as begin:
        asked = begin(client.messages.create, **request())
        until(lambda: idle_carpool.queued() == 1)
        with pytest.raises(TimeoutError):
            asked.exception(timeout=2.0)
        with at_work(idle_carpool):
            assert asked.result().role == "assistant"

    assert simulator.ledger()["billed"] == 1


def test_the_sdk_reads_a_stream_with_pings_in_front(
    run_gateway: RunGateway, secret: str, working_carpool: WorkingCarpool
) -> None:
    with (
        run_gateway(**QUICK_PINGS) as url,
        sdk(url, secret) as client,
        client.messages.stream(**request("Streamed")) as stream,
    ):
        text = "".join(stream.text_stream)
        message = stream.get_final_message()

    assert "Streamed" in text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


@ON_BOTH
@pytest.mark.parametrize("settings", [{}, QUICK_PINGS])
def test_a_stream_is_one_of_events_whenever_its_answer_comes(
    run_gateway: RunGateway, secret: str, working_carpool: WorkingCarpool, settings: dict[str, float]
) -> None:
    with run_gateway(**settings) as url:
        reply = post(url, secret, STREAMED)

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.body.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert reply.body.startswith(b"event: ping" if settings else b"event: message_start")
    assert len(reply.headers["x-carpool-request-id"]) == 32
    assert ("x-carpool-cost" in reply.headers) == ("x-carpool-saved" in reply.headers) == (not settings)


def test_the_params_are_sent_without_stream(
    gateway: str, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    post(gateway, secret, STREAMED)

    assert simulator.ledger()["outcomes"] == {"succeeded": 1}


def test_an_error_in_a_stream_is_an_event_that_the_sdk_raises(
    run_gateway: RunGateway, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(outcome="errored", error_type="invalid_request_error", message="too long"))

    with (
        run_gateway(**QUICK_PINGS) as url,
        sdk(url, secret) as client,
        pytest.raises(anthropic.APIStatusError, match="too long"),
    ):
        list(client.messages.create(**request(), stream=True))

    assert simulator.ledger()["requests_run"] == 1


def test_an_error_that_is_known_before_a_stream_begins_has_its_status(
    gateway: str, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(outcome="errored", error_type="invalid_request_error", message="too long"))

    reply = post(gateway, secret, STREAMED)

    assert (reply.status, reply.error_type) == (400, "invalid_request_error")
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["content-type"].startswith("application/json")


OUTCOMES = {
    "invalid_request_error": (400, "invalid_request_error"),
    "not_found_error": (404, "not_found_error"),
    "authentication_error": (502, "api_error"),
    "permission_error": (403, "permission_error"),
    "billing_error": (402, "billing_error"),
    "request_too_large": (413, "request_too_large"),
    "rate_limit_error": (429, "rate_limit_error"),
    "overloaded_error": (529, "overloaded_error"),
    "timeout_error": (504, "timeout_error"),
    "api_error": (500, "api_error"),
    "error_of_tomorrow": (500, "api_error"),
    "expired": (504, "timeout_error"),
}


def test_each_final_outcome_has_its_status_and_nobody_is_to_repeat_it(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    errors = OUTCOMES.keys() - {"expired"}
    scripts = [Script(outcome="errored", error_type=kind, contains=f"<{kind}>") for kind in errors]
    simulator.script(*scripts, Script(outcome="expired", contains="<expired>"))

    with at_once(len(OUTCOMES)) as begin, at_work(idle_carpool):
        calls = {kind: begin(post, gateway, secret, request(f"<{kind}>")) for kind in OUTCOMES}
        replies = {kind: one.result() for kind, one in calls.items()}

    assert {kind: (one.status, one.error_type) for kind, one in replies.items()} == OUTCOMES
    for reply in replies.values():
        assert reply.headers["x-should-retry"] == "false"
        assert "retry-after" not in reply.headers
        assert reply.json["request_id"] == reply.headers["request-id"]


@ON_BOTH
def test_a_call_that_prefers_it_is_answered_with_202_and_later_by_its_id(
    gateway: str, secret: str, idle_carpool: WorkingCarpool
) -> None:
    accepted = post(gateway, secret, prefer="respond-async", X_Carpool_Metadata='{"invoice": 42}')

    assert accepted.status == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    assert accepted.headers["retry-after"] == "10"
    place = accepted.headers["location"]
    assert place == f"/v1/carpool/requests/{accepted.json['id']}"
    for prefer in ("handling=strict", "wait=0.05"):  # it is still in the inbox, however long one waits
        still = get(gateway, secret, place, prefer=prefer)
        assert (still.status, still.headers["retry-after"], still.json["state"]) == (202, "10", "queued")

    with at_work(idle_carpool):
        ended = get(gateway, secret, place, prefer="wait=30")

    assert ended.status == 200
    assert ended.json["type"] == "request.completed"
    assert ended.json["data"]["metadata"] == {"invoice": 42}
    assert ended.json["data"]["message"]["role"] == "assistant"


def test_nobody_gets_a_202_who_has_not_asked_for_it(gateway: str, secret: str) -> None:
    with begun(gateway, secret, "POST", "/v1/messages", b"{}", {"prefer": "handling=lenient"}) as finish:
        assert finish().status == 400


def test_a_call_may_prefer_to_wait_a_little_first(
    gateway: str, secret: str, working_carpool: WorkingCarpool
) -> None:
    answered = post(gateway, secret, prefer="respond-async, wait=30")

    assert answered.status == 200
    assert answered.json["type"] == "message"


@ON_BOTH
def test_a_callback_is_answered_with_202_and_called(
    gateway: str, secret: str, idle_carpool: WorkingCarpool
) -> None:
    accepted = post(gateway, secret, X_Carpool_Callback="task:billing.on_answer@billing")
    hooked = post(gateway, secret, X_Carpool_Callback="https://billing.example.com/claude")

    assert (accepted.status, hooked.status) == (202, 202)
    with at_work(idle_carpool):
        until(lambda: idle_carpool.ended(2))
    owed = {target for (target,) in idle_carpool.rows("SELECT target FROM deliveries")}
    assert len(owed) == 2
    assert any("billing.on_answer" in target for target in owed)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"X-Carpool-Callback": "http://billing.example.com/"}, "callback.url"),
        ({"X-Carpool-Callback": "task:carpool.submit"}, "callback.name"),
        ({"X-Carpool-Callback": "nonsense"}, "callback.url"),
        ({"X-Carpool-Metadata": "{"}, "X-Carpool-Metadata"),
        ({"X-Carpool-Max-Wait": "soon"}, "X-Carpool-Max-Wait"),
        ({"X-Carpool-Max-Wait": "-1"}, "max_wait"),
        ({"X-Carpool-Deadline": "soon"}, "deadline"),
        ({"X-Carpool-Deadline": "60", "X-Carpool-Deadline-Policy": "never"}, "deadline_policy"),
        ({"X-Carpool-Priority": "nan"}, "X-Carpool-Priority"),
        ({"Idempotency-Key": "x" * 257}, "Idempotency-Key"),
        ({"anthropic-beta": "a b"}, "betas[0]"),
    ],
)
def test_a_header_that_breaks_a_rule_is_named(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, headers: dict[str, str], said: str
) -> None:
    refused = call(gateway, secret, "POST", "/v1/messages", json.dumps(request()).encode(), headers)

    assert refused.status == 400
    assert said in refused.json["error"]["message"]
    assert idle_carpool.queued() == 0


@ON_BOTH
def test_headers_reach_the_request(gateway: str, secret: str, idle_carpool: WorkingCarpool) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    key = new_key(idle_carpool.engine, name="vip", lowest_priority=-5, highest_priority=5)
    given: dict[str, Any] = {
        "prefer": "respond-async",
        "anthropic-beta": "b-1, a-1",
        "X-Carpool-Priority": "50",
        "X-Carpool-Max-Wait": "90",
        "traceparent": trace,
    }

    assert call(gateway, key, "POST", "/v1/messages", json.dumps(request()).encode(), given).status == 202
    idle_carpool.aggregate()

    [(priority, trace_kept, lane)] = idle_carpool.rows(
        "SELECT priority, trace, lane FROM requests JOIN segments ON segments.id = requests.segment_id"
    )
    assert (priority, trace_kept) == (5, trace)
    assert "anthropic-beta=a-1,b-1" in lane
    [(wait,)] = idle_carpool.rows("SELECT submit_by - enqueued_at FROM requests")
    assert wait == 90_000


def test_a_deadline_is_a_headers_or_its_keys(gateway: str, secret: str, idle_carpool: WorkingCarpool) -> None:
    key = new_key(idle_carpool.engine, name="hurried", deadline=600, deadline_policy="batch")
    body = json.dumps(request()).encode()
    again = {"X-Carpool-Deadline": "3600", "X-Carpool-Deadline-Policy": "pay_again"}
    at = datetime.now(UTC) + timedelta(hours=2)

    for own, given in ((key, {}), (key, again), (secret, {"X-Carpool-Deadline": at.isoformat()})):
        headers = {"prefer": "respond-async", **given}
        assert call(gateway, own, "POST", "/v1/messages", body, headers).status == 202
    idle_carpool.aggregate()

    seconds = "round((deadline - enqueued_at) / 60000.0)"
    kept = idle_carpool.rows(f"SELECT {seconds}, deadline_policy FROM requests ORDER BY deadline")
    assert [tuple(row) for row in kept] == [(10, "batch"), (60, "pay_again"), (120, None)]


def test_only_a_key_that_may_chooses_a_workspace(
    gateway: str, secret: str, idle_carpool: WorkingCarpool
) -> None:
    refused = post(gateway, secret, anthropic_workspace_id="wrkspc_1")
    free = new_key(idle_carpool.engine, name="free", workspaces=True)

    assert (refused.status, refused.error_type) == (403, "permission_error")
    assert post(gateway, free, anthropic_workspace_id="wrkspc_1", prefer="respond-async").status == 202


@ON_BOTH
def test_other_tenants_requests_are_not_there(
    gateway: str, secret: str, idle_carpool: WorkingCarpool
) -> None:
    mine = post(gateway, secret, prefer="respond-async").headers["location"]
    other = new_key(idle_carpool.engine, client="other")

    def is_hidden() -> bool:
        seen = [
            get(gateway, other, mine),
            call(gateway, other, "POST", f"{mine}/cancel"),
            get(gateway, other, "/v1/carpool/requests/" + "0" * 32),
        ]
        bodies = {str(reply.json["error"]) for reply in seen}
        return [reply.status for reply in seen] == [404] * 3 and len(bodies) == 1

    assert is_hidden()  # in the inbox
    idle_carpool.aggregate()
    assert is_hidden()  # in the tables
    assert get(gateway, other, "/v1/carpool/requests").json["data"] == []
    assert [one["id"] for one in get(gateway, secret, "/v1/carpool/requests").json["data"]] == [
        mine.rpartition("/")[2]
    ]


@ON_BOTH
def test_a_canceled_request_is_a_409(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    place = post(gateway, secret, prefer="respond-async", idempotency_key="k").headers["location"]

    assert call(gateway, secret, "POST", f"{place}/cancel").status == 202
    with at_work(idle_carpool):
        ended = get(gateway, secret, place, prefer="wait=30")
        held = post(gateway, secret, idempotency_key="k")

    assert ended.json["type"] == "request.canceled"
    assert (held.status, held.headers["x-should-retry"]) == (409, "false")
    assert call(gateway, secret, "POST", f"{place}/cancel").json["type"] == "request.canceled"
    assert simulator.ledger()["billed"] == 0


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/claude/healthz"])
def test_these_need_no_key(run_gateway: RunGateway, path: str) -> None:
    with run_gateway(gateway_prefixes=["/claude"]) as url:
        assert call(url, "", "GET", path).status == 200
        assert call(url, "", "HEAD", path).status == 200


def test_it_is_served_under_its_prefixes_too(run_gateway: RunGateway, secret: str) -> None:
    body, prefer = json.dumps(request()).encode(), {"prefer": "respond-async"}

    with run_gateway(gateway_prefixes=["/relay/claude"]) as url:
        accepted = call(url, secret, "POST", "/relay/claude/v1/messages", body, prefer)
        place = accepted.headers["location"]
        assert place.startswith("/relay/claude/v1/carpool/requests/")
        assert get(url, secret, place).status == 202
        assert get(url, secret, f"/another{place}").status == 404
