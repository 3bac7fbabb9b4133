"""What needs somebody: the cards of the overview, and what is beside each."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from tests.views.test_alerts import WELL, paused

from carpool_worker.console.needs import MOST_RECEIVERS, Need, needs
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.policies.budgets import Over
from carpool_worker.store.reports.status import Deliveries
from carpool_worker.views.alerts import AlertKind
from carpool_worker.views.budgets import BudgetView, PeriodView
from carpool_worker.views.deliveries import EndpointView

HOOK = EndpointView(
    url="https://a.example/hook", failing_since=1, stopped_at=None, reason=None, dead_letters=2
)
GONE = replace(HOOK, url="https://b.example/hook", stopped_at=2, reason="410 Gone")


def budget(spent: str, over: Over = Over.WAIT) -> BudgetView:
    periods = {
        "day": PeriodView(limit=Decimal(12), spent=Decimal(spent)),
        "month": PeriodView(limit=Decimal(180), spent=Decimal(spent)),
    }
    return BudgetView(periods=periods, reserved=Decimal(0), over=over)


def one(found: list[Need]) -> Need:
    [need] = found
    return need


def test_nothing_needs_anybody_where_all_is_well() -> None:
    assert needs(WELL, [], {"billing": budget("11.99")}, [ok("redis", "Valkey 9.1")]) == []


def test_a_paused_lane_has_one_card_whoever_paused_it() -> None:
    for by_operator in (True, False):
        status = paused(by_operator=by_operator)

        card = one(needs(status, [], {}, [wrong("lanes", "haiku is paused", "", AlertKind.LANE_PAUSED)]))

        assert card.lane == status.lanes[0]
        assert "lane haiku is paused" in card.sentence
        assert ("by an operator" in card.sentence) == by_operator


def test_dead_letters_are_counted_on_the_card_that_replays_them() -> None:
    deliveries = WELL.deliveries._replace(dead_lately=3)

    card = one(needs(replace(WELL, deliveries=deliveries), [], {}, []))

    assert card.dead_letters == 3
    assert card.look
    assert card.look.path == "/deliveries?state=discarded"


def test_a_batch_in_doubt_is_resolved_from_its_card() -> None:
    card = one(needs(replace(WELL, long_in_doubt=["b1"]), [], {}, []))

    assert card.doubt == "b1"


def test_each_receiver_in_trouble_has_a_card_and_what_the_doctor_says_of_them_has_none() -> None:
    deliveries: Deliveries = WELL.deliveries._replace(stopped_endpoints=1, failing_endpoints=1)
    findings = [
        wrong("webhooks", "deliveries fail", "see why", AlertKind.ENDPOINTS_FAILING),
        wrong("webhooks", "deliveries are stopped", "replay", AlertKind.ENDPOINTS_STOPPED),
    ]

    found = needs(replace(WELL, deliveries=deliveries), [HOOK, GONE], {}, findings)

    assert [card.receiver for card in found] == [HOOK, GONE]
    assert found[0].sentence.startswith("each delivery to https://a.example/hook has failed since")
    assert found[1].sentence.startswith("nothing is sent to https://b.example/hook since")
    assert found[1].sentence.endswith(": 410 Gone")


def test_of_many_receivers_the_rest_has_one_card() -> None:
    found = needs(WELL, [HOOK] * (MOST_RECEIVERS + 3), {}, [])

    assert len(found) == MOST_RECEIVERS + 1
    assert found[-1].sentence == "3 more receivers fail or are stopped"


def test_a_used_up_budget_names_the_period_that_is_and_what_waits() -> None:
    found = needs(replace(WELL, held={"search": 4}), [], {"a/b": budget("12.50", Over.REFUSE)}, [])

    assert [card.sentence for card in found] == [
        "the budget of a/b is used up, $12.50 of $12.00 a day: its requests are refused",
        "4 requests wait for room in a budget of search or of its key",
    ]
    assert found[0].look
    assert found[0].look.path == "/clients/a%2Fb"


def test_what_the_doctor_finds_wrong_comes_first_with_its_mend_and_warnings_have_no_card() -> None:
    findings: list[Finding] = [
        warning("redis", "maxmemory is not set", "set it"),
        wrong("redis", "appendonly is no", "set appendonly yes"),
        wrong("celery", "beat has never ticked", "run it", AlertKind.BEAT_SILENT),
    ]

    found = needs(paused(by_operator=True), [], {}, findings)

    assert [(card.sentence, card.mend, card.is_bad) for card in found[:1]] == [
        ("redis: appendonly is no", "set appendonly yes", True)
    ]
    assert len(found) == 2
