"""However often a call is repeated, by whomever, its request runs once, and each answer goes to one caller."""

from __future__ import annotations

import json
import time
from http.client import IncompleteRead
from typing import Any

import anthropic
import pytest
from tests.fixtures.agents import request
from tests.fixtures.gateway import ON_BOTH, RunGateway, WorkingCarpool, at_work, new_key
from tests.fixtures.gateway_calls import at_once, begun, call, post, sdk
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker.gateway import presence
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.simulator.scripts import Script


def hang_up(url: str, secret: str, carpool: WorkingCarpool, params: Any = None, **headers: str) -> None:
    """Make a call, and leave once it is in the inbox."""
    before = carpool.queued()
    body = json.dumps(request() if params is None else params).encode()
    with begun(url, secret, "POST", "/v1/messages", body, headers):
        until(lambda: carpool.queued() > before)
    until(lambda: carpool.orphans())


@ON_BOTH
def test_an_equal_call_gets_the_request_of_one_that_hung_up(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    # Given a caller that has given up, and nothing in its retry tells that it is one
    hang_up(gateway, secret, idle_carpool)

    with at_work(idle_carpool):
        reply = post(gateway, secret)

    assert reply.status == 200
    assert simulator.ledger()["billed"] == 1
    assert idle_carpool.rows("SELECT id FROM requests") == [(reply.headers["x-carpool-request-id"],)]
    assert not idle_carpool.orphans()


def test_a_retry_as_a_whole_gets_the_request_of_a_stream(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    hang_up(gateway, secret, idle_carpool, request() | {"stream": True})

    with at_work(idle_carpool):
        assert post(gateway, secret).status == 200

    assert simulator.ledger()["billed"] == 1


@pytest.mark.parametrize("header", ["anthropic-beta", "X-Carpool-Metadata"])
def test_a_call_that_differs_is_another_request(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator, header: str
) -> None:
    hang_up(gateway, secret, idle_carpool)

    with at_work(idle_carpool):
        call(gateway, secret, "POST", "/v1/messages", json.dumps(request()).encode(), {header: '"x"'})
        until(lambda: idle_carpool.ended(2))

    assert simulator.ledger()["billed"] == 2


def test_another_tenants_equal_call_is_another_request(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    hang_up(gateway, secret, idle_carpool)
    other = new_key(idle_carpool.engine, client="other")

    with at_work(idle_carpool):
        assert post(gateway, other).status == 200
        until(lambda: idle_carpool.ended(2))

    assert simulator.ledger()["billed"] == 2


def test_equal_calls_that_are_wanted_many_times_are_as_many_requests(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    with at_once(8) as begin:
        calls = [begin(post, gateway, secret) for _ in range(8)]
        until(lambda: idle_carpool.queued() == 8)
        with at_work(idle_carpool):
            replies = [one.result() for one in calls]

    assert len({reply.headers["x-carpool-request-id"] for reply in replies}) == 8
    assert len({reply.json["id"] for reply in replies}) == 8
    assert simulator.ledger()["billed"] == 8


def test_an_error_known_late_cuts_the_connection_and_the_sdks_retry_raises_it(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    # Given a call that has its 200 and some spaces already
    simulator.script(Script(outcome="errored", error_type="invalid_request_error", message="too long"))
    gateway = run_gateway(gateway_silence=2.0, gateway_ping_interval=0.05)
    with gateway as url, sdk(url, secret) as client, at_once(1) as begin:
        asked = begin(client.messages.create, **request())
        until(lambda: idle_carpool.queued() == 1)
        silent_until = time.monotonic() + 2.2
        until(lambda: time.monotonic() > silent_until)

        with at_work(idle_carpool), pytest.raises(anthropic.BadRequestError, match="too long"):
            asked.result()

    assert simulator.ledger()["requests_run"] == 1


def test_by_hand_the_cut_is_seen_and_the_retry_has_the_true_status_at_once(
    run_gateway: RunGateway, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(outcome="errored", error_type="invalid_request_error", message="too long"))

    # However short the silence: the retry's answer is known before it begins
    with run_gateway(gateway_silence=0.01, gateway_ping_interval=0.05) as url:
        with pytest.raises(IncompleteRead):
            post(url, secret)
        reply = post(url, secret)

    assert (reply.status, reply.error_type) == (400, "invalid_request_error")
    assert simulator.ledger()["requests_run"] == 1


def test_a_marked_retry_may_fetch_an_answer_again_and_an_unmarked_one_is_new(
    gateway: str, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    first = post(gateway, secret)

    again = post(gateway, secret, x_stainless_retry_count="1")
    new = post(gateway, secret)

    assert again.body == first.body
    assert new.json["id"] != first.json["id"]
    assert simulator.ledger()["billed"] == 2


def test_a_marked_retry_more_than_a_minute_after_the_answer_is_a_new_request(
    gateway: str, secret: str, working_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    first = post(gateway, secret, x_carpool_max_wait="0.01")
    answered = until(lambda: working_carpool.redis.keys("carpool:gateway:calls:*:answered"))
    assert 0 < working_carpool.redis.pttl(answered[0]) <= 60_000
    id_ = first.headers["x-carpool-request-id"]
    working_carpool.redis.zincrby(answered[0], -60_001, id_)

    late = post(gateway, secret, x_stainless_retry_count="1", x_carpool_max_wait="0.01")

    assert (late.status, late.headers["x-carpool-request-id"] == id_) == (200, False)
    assert simulator.ledger()["billed"] == 2


@ON_BOTH
def test_calls_with_one_idempotency_key_share_one_request(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    with at_once(2) as begin:
        calls = [begin(post, gateway, secret, idempotency_key="invoice-42") for _ in range(2)]
        until(lambda: idle_carpool.queued() == 2)
        with at_work(idle_carpool):
            bodies = {one.result().body for one in calls}
            later = post(gateway, secret, idempotency_key="invoice-42")

    assert bodies == {later.body}
    assert simulator.ledger()["billed"] == 1


@ON_BOTH
@pytest.mark.parametrize("forgotten", [False, True])
def test_an_idempotency_key_with_another_body_is_refused(
    gateway: str, secret: str, working_carpool: WorkingCarpool, forgotten: bool
) -> None:
    post(gateway, secret, idempotency_key="invoice-42")
    if forgotten:  # by Redis: the tables remember
        working_carpool.redis.delete(*working_carpool.redis.keys("carpool:gateway:keyed:*"))

    refused = post(gateway, secret, request("Something else"), idempotency_key="invoice-42")

    assert (refused.status, refused.error_type) == (422, "invalid_request_error")
    assert post(gateway, secret, idempotency_key="invoice-42").status == 200
    assert working_carpool.redis.xlen("carpool:quarantine") == 0


def test_the_oldest_of_equal_calls_that_hung_up_is_adopted_first(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    body = json.dumps(request()).encode()
    with begun(gateway, secret, "POST", "/v1/messages", body):
        until(lambda: idle_carpool.queued() == 1)
        with begun(gateway, secret, "POST", "/v1/messages", body):
            until(lambda: idle_carpool.queued() == 2)
        until(lambda: idle_carpool.orphans())  # the younger one hangs up first
    [calls] = idle_carpool.orphans()
    until(lambda: idle_carpool.redis.zcard(calls) == 2)

    with at_work(idle_carpool):
        answers = [post(gateway, secret) for _ in range(2)]

    oldest_first = [(reply.headers["x-carpool-request-id"],) for reply in answers]
    assert idle_carpool.rows("SELECT id FROM requests ORDER BY id") == oldest_first
    assert simulator.ledger()["billed"] == 2


def test_a_gateway_that_is_not_heard_of_for_half_a_minute_has_lost_its_calls(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a gateway that holds a call and stands still, with its connections open
    monkeypatch.setattr(presence, "BEAT_SECONDS", 1_000.0)
    with run_gateway() as frozen, at_once(2) as begin:
        held = begin(post, frozen, secret)
        until(lambda: idle_carpool.queued() == 1)
        [id_] = idle_carpool.redis.zrange("carpool:gateways", 0, -1)
        idle_carpool.redis.zincrby("carpool:gateways", -30_001, id_)

        # When the call is made at another one
        with run_gateway() as other:
            adopting = begin(post, other, secret)
            until(lambda: idle_carpool.queued() == 2)
            with at_work(idle_carpool):
                adopted, late = adopting.result(), held.result()

    # Then that has the same request, which is there once
    assert adopted.headers["x-carpool-request-id"] == late.headers["x-carpool-request-id"]
    assert idle_carpool.rows("SELECT count(*) FROM requests") == [(1,)]


def test_a_gateway_that_lives_renews_its_lease(
    run_gateway: RunGateway, idle_carpool: WorkingCarpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)
    with run_gateway():
        [(id_, heard_of)] = idle_carpool.redis.zrange("carpool:gateways", 0, -1, withscores=True)

        until(lambda: idle_carpool.redis.zscore("carpool:gateways", id_) > heard_of)


def test_calls_of_a_gateway_that_died_are_adopted(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    # Given a call that a gateway holds, whose process is gone: nobody listens on its channel any longer
    with run_gateway() as url:
        hang_up(url, secret, idle_carpool)
        [calls] = idle_carpool.orphans()
        [(id_, _)] = idle_carpool.redis.zrange(calls, 0, -1, withscores=True)
        idle_carpool.redis.zrem(calls, id_)
        idle_carpool.redis.zadd(calls + b"0" * 32, {id_: 1})
        idle_carpool.redis.zadd("carpool:gateways", {"0" * 32: time.time() * 1_000})

        with at_work(idle_carpool):
            reply = post(url, secret)

    assert reply.headers["x-carpool-request-id"] == id_.decode()
    assert simulator.ledger()["billed"] == 1


def test_calls_of_a_gateway_that_lives_are_left_to_it(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    with run_gateway() as one, run_gateway() as other, at_once(2) as begin:
        calls = [begin(post, one, secret)]
        until(lambda: idle_carpool.queued() == 1)
        calls.append(begin(post, other, secret))
        until(lambda: idle_carpool.queued() == 2)
        with at_work(idle_carpool):
            replies = [one.result() for one in calls]

    assert len({reply.json["id"] for reply in replies}) == 2


def test_a_gateway_that_ends_gives_its_calls_up(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, simulator: RemoteSimulator
) -> None:
    with at_once(1) as begin:
        with run_gateway(gateway_drain=0.05) as url:
            cut = begin(post, url, secret)
            until(lambda: idle_carpool.queued() == 1)
        assert cut.result().status == 503
    with run_gateway() as url, at_work(idle_carpool):
        assert post(url, secret).status == 200

    assert simulator.ledger()["billed"] == 1
    assert idle_carpool.redis.zcard("carpool:gateways") == 0


def test_with_a_key_prefix_a_gateway_keeps_to_its_keys(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool
) -> None:
    def queued() -> int:
        return int(idle_carpool.redis.get("blue:carpool:{0}:queued") or 0)

    with run_gateway(key_prefix="blue:") as url:
        with begun(url, secret, "POST", "/v1/messages", json.dumps(request()).encode()):
            until(lambda: queued() == 1)
        orphaned = until(lambda: idle_carpool.redis.keys("blue:carpool:gateway:calls:*:"))
        adopted = post(url, secret, idempotency_key="k", prefer="respond-async")
        with begun(url, secret, "POST", "/v1/messages", json.dumps(request()).encode()):
            until(lambda: not idle_carpool.redis.exists(*orphaned))
        assert adopted.status == 202

    assert all(key.startswith(b"blue:") for key in list(idle_carpool.redis.scan_iter()))


def test_a_key_that_a_producer_used_with_other_params_is_refused(
    gateway: str, secret: str, idle_carpool: WorkingCarpool, redis_url: str
) -> None:
    # Given: only Redis knows of the key yet
    with Producer(redis_url, client="tests") as producer:
        producer.enqueue(request("Something else"), idempotency_key="invoice-42")

    for _ in range(2):
        refused = post(gateway, secret, idempotency_key="invoice-42")
        assert (refused.status, refused.error_type) == (422, "invalid_request_error")

    assert idle_carpool.queued() == 1
