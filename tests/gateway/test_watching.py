"""What operators see of the gateways: metrics, and findings of the doctor."""

from __future__ import annotations

import pytest
from tests.fixtures.gateway import RunGateway, WorkingCarpool, at_work
from tests.fixtures.gateway_calls import at_once, post
from tests.fixtures.metrics import scrape
from tests.fixtures.waiting import until

from carpool_worker.database import now
from carpool_worker.doctor import gateways as doctor
from carpool_worker.doctor.findings import Verdict
from carpool_worker.gateway import presence
from carpool_worker.views.gateways import GatewayView, read_gateways


def test_metrics_tell_what_each_gateway_holds_and_answers(
    run_gateway: RunGateway, secret: str, idle_carpool: WorkingCarpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)
    with run_gateway(gateway_most_held=50) as url, at_once(2) as begin:
        post(url, "")
        calls = [begin(post, url, secret) for _ in range(2)]
        until(lambda: [one.held for one in read_gateways(idle_carpool.server)] == [2])

        seen = scrape(idle_carpool)

        [held] = seen.named("gateway_held_calls")
        assert seen.value("gateways", state="alive") == 1
        assert seen.value("gateways", state="dead") == 0
        assert seen.value("gateway_held_calls", **held) == 2
        assert seen.value("gateway_most_held", **held) == 50
        assert seen.value("gateway_answers_total", **held, status="401") == 1
        with at_work(idle_carpool):
            assert [one.result().status for one in calls] == [200, 200]
        until(lambda: read_gateways(idle_carpool.server)[0].answered.get("200") == 2)

    # And one that ended as it should is not missed
    assert read_gateways(idle_carpool.server) == []


def test_a_gateway_that_died_is_missed_for_an_hour(idle_carpool: WorkingCarpool) -> None:
    idle_carpool.redis.zadd("carpool:gateways", {"a" * 32: now() - 60_000, "b" * 32: now() - 7_200_000})

    [finding] = doctor.examine(idle_carpool.server)

    assert finding.verdict is Verdict.WARNING
    assert "died in the last hour, without a SIGTERM: 1" in finding.what
    assert scrape(idle_carpool).value("gateways", state="dead") == 1


@pytest.mark.parametrize(("held", "verdict"), [(0, Verdict.OK), (79, Verdict.OK), (80, Verdict.WARNING)])
def test_the_doctor_says_when_gateways_have_little_room(held: int, verdict: Verdict) -> None:
    [finding] = doctor.judge([GatewayView("a" * 32, 1.0, "here", held, 100)])

    assert finding.verdict is verdict
    assert finding.what == f"1 running; {held} of 100 calls are held"


def test_where_there_is_no_gateway_the_doctor_says_nothing() -> None:
    assert list(doctor.judge([])) == []
