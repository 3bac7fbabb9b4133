"""What needs somebody: the cards of the overview, each with what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from carpool_worker.console.command_lines import command_line
from carpool_worker.console.rendering import brief
from carpool_worker.doctor import Finding, Verdict
from carpool_worker.formatting import clock, counted, dollars
from carpool_worker.policies.budgets import Over
from carpool_worker.views import budgets
from carpool_worker.views.alerts import Alert, AlertKind, alerts
from carpool_worker.views.budgets import BudgetView
from carpool_worker.views.deliveries import EndpointView
from carpool_worker.views.lanes import LaneView
from carpool_worker.views.status import Status

MOST_RECEIVERS = 6
"""That have a card of their own."""

BAD = {AlertKind.REDIS_AWAY, AlertKind.NO_WORKER, AlertKind.BEAT_SILENT, AlertKind.POSTED_TWICE}

OTHERWISE = {AlertKind.LANE_PAUSED, AlertKind.ENDPOINTS_STOPPED, AlertKind.ENDPOINTS_FAILING}
"""Have a card for each lane and each receiver instead."""


class MorePage(NamedTuple):
    """A page with more about a need."""

    path: str
    label: str


BATCHES, DELIVERIES, HEALTH = "/batches", "/deliveries", "/health"

LOOKS = {
    AlertKind.POSTED_TWICE: BATCHES,
    AlertKind.BATCH_IN_DOUBT: BATCHES,
    AlertKind.BATCH_OVERDUE: BATCHES,
    AlertKind.BATCH_UNREAD: BATCHES,
    AlertKind.QUEUE_FULL: DELIVERIES,
    AlertKind.ENTRIES_QUARANTINED: HEALTH,
    AlertKind.BATCHES_UNSEEN: HEALTH,
    AlertKind.NO_WORKER: HEALTH,
    AlertKind.BEAT_SILENT: HEALTH,
    AlertKind.REDIS_AWAY: HEALTH,
}
"""Where there is more about an alert."""

DEAD_LETTERS = MorePage("/deliveries?state=discarded", "Show them")
LOST_CALLS = MorePage("/requests?error=answer_lost", "Show requests")

MORE_ROOM = (
    "There is room again when its day or month ends (UTC), or with a higher limit in the setting budgets."
)


@dataclass(frozen=True, kw_only=True)
class Need:
    """A card: a sentence, how to mend it, and what its button is about, if it has one."""

    sentence: str
    is_bad: bool = False  # nothing moves, or a promise is at stake
    mend: str = ""
    command: str | None = None
    look: MorePage | None = None
    lane: LaneView | None = None  # is resumed
    doubt: str | None = None  # the id of a batch whose post is resolved
    receiver: EndpointView | None = None  # is stopped or started, tested and sent its dead letters again
    dead_letters: int = 0  # of all receivers: sent again


def needs(
    status: Status,
    troubled: Sequence[EndpointView],
    balances: Mapping[str, BudgetView],
    findings: Sequence[Finding],
) -> list[Need]:
    """Return the cards, those first without which nothing moves."""
    found = [
        *(_of_alert(alert, status) for alert in alerts(status) if alert.kind not in OTHERWISE),
        *_of_doctor(findings),
        *(_of_lane(lane) for lane in status.lanes if lane.paused),
        *_of_receivers(troubled, status.at),
        *_over_budget(status.held, balances),
    ]
    return sorted(found, key=lambda need: not need.is_bad)


def _of_alert(alert: Alert, status: Status) -> Need:
    subject = alert.subject or ""
    in_doubt = alert.kind is AlertKind.BATCH_IN_DOUBT
    given_up = alert.kind is AlertKind.DELIVERIES_GIVEN_UP
    return Need(
        sentence=alert.sentence.replace(subject, brief(subject)),
        is_bad=alert.kind in BAD,
        command=alert.command,
        look=_look(alert),
        doubt=alert.subject if in_doubt else None,
        dead_letters=status.deliveries.dead_lately if given_up else 0,
    )


def _look(alert: Alert) -> MorePage | None:
    if alert.kind is AlertKind.DELIVERIES_GIVEN_UP:
        return DEAD_LETTERS
    if alert.kind is AlertKind.CALLS_LOST:
        return LOST_CALLS
    path = LOOKS.get(alert.kind)
    if path == BATCHES and alert.subject:
        return MorePage(f"{BATCHES}/{alert.subject}", "Show the batch")
    return MorePage(path, f"Show {path.removeprefix('/')}") if path else None


def _of_doctor(findings: Sequence[Finding]) -> Iterator[Need]:
    for finding in findings:
        if finding.verdict is Verdict.WRONG and finding.alert is None:
            look = MorePage(f"{HEALTH}#doctor", "Show health")
            sentence = f"{finding.check}: {finding.what}"
            yield Need(sentence=sentence, is_bad=True, mend=finding.mend, command="carpool doctor", look=look)


def _of_lane(lane: LaneView) -> Need:
    by = " by an operator" if lane.paused_by_operator else ""
    sentence = f"lane {lane.lane} is paused{by}: {lane.reason}"
    return Need(sentence=sentence, lane=lane, look=MorePage("/lanes", "Show lanes"))


def _of_receivers(troubled: Sequence[EndpointView], at: int) -> Iterator[Need]:
    for one in troubled[:MOST_RECEIVERS]:
        if one.stopped_at:
            since = clock(one.stopped_at, at)
            what = f"nothing is sent to {one.url} since {since}: {one.reason or 'it is stopped'}"
        else:
            since = clock(one.failing_since or at, at)
            what = f"each delivery to {one.url} has failed since {since}"
        yield Need(sentence=what, receiver=one, look=MorePage(DELIVERIES, "Show deliveries"))
    if (more := len(troubled) - MOST_RECEIVERS) > 0:
        what = counted(more, "more receiver fails or is stopped", "more receivers fail or are stopped")
        look = MorePage(DELIVERIES, "Show deliveries")
        yield Need(sentence=what, command="carpool deliveries endpoints", look=look)


def _over_budget(held: Mapping[str, int], found: Mapping[str, BudgetView]) -> Iterator[Need]:
    empty = [client for client, budget in found.items() if budgets.used_up(budget)]
    for client in dict.fromkeys([*empty, *held]):
        waiting = counted(held.get(client, 0), "request waits", "requests wait")
        if client not in empty:
            what = f"{waiting} for room in a budget of {client} or of its key"
        else:
            budget = found[client]
            rest = waiting if held.get(client) else _over(budget)
            what = f"the budget of {client} is used up, {_spent(budget)}: {rest}"
        look = MorePage(f"/clients/{quote(client, safe='')}", "Show the client")
        yield Need(sentence=what, mend=MORE_ROOM, look=look, command=command_line("clients", "show", client))


def _over(budget: BudgetView) -> str:
    return "its requests are refused" if budget.over is Over.REFUSE else "its requests wait"


def _spent(budget: BudgetView) -> str:
    full = {period: one for period, one in budget.periods.items() if one.spent + budget.reserved >= one.limit}
    said = [f"{dollars(one.spent)} of {dollars(one.limit)} a {period}" for period, one in full.items()]
    return ", ".join([*said, *([f"{dollars(budget.reserved)} reserved"] if budget.reserved else [])])
