"""Alerts: the parts of a status that need an operator. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from carpool_worker.formatting import age, counted
from carpool_worker.policies.accounts import shown
from carpool_worker.units import SECOND
from carpool_worker.views.status import Status
from carpool_worker.views.vitals import Vitals

SILENT = 30.0
"""Seconds without a tick after which beat counts as dead; it shows a sign of life every second."""

STUCK_INBOX = 60.0
"""Seconds after which a request in the inbox is too old: a worker takes it within one."""


class AlertKind(StrEnum):
    """What is wrong, most urgent first."""

    REDIS_AWAY = "redis_away"
    NO_WORKER = "no_worker"
    BEAT_SILENT = "beat_silent"
    INBOX_STUCK = "inbox_stuck"
    ENTRIES_QUARANTINED = "entries_quarantined"
    LANE_PAUSED = "lane_paused"
    BATCHES_UNSEEN = "batches_unseen"
    POSTED_TWICE = "posted_twice"
    BATCH_IN_DOUBT = "batch_in_doubt"
    CALLS_LOST = "calls_lost"
    BATCH_OVERDUE = "batch_overdue"
    BATCH_UNREAD = "batch_unread"
    DELIVERIES_GIVEN_UP = "deliveries_given_up"
    ENDPOINTS_STOPPED = "endpoints_stopped"
    ENDPOINTS_FAILING = "endpoints_failing"
    QUEUE_FULL = "queue_full"


@dataclass(frozen=True)
class Alert:
    """A sentence on something that needs an operator, the command that helps, and the lane or batch it is about."""

    kind: AlertKind
    sentence: str
    command: str | None = None
    subject: str | None = None

    def __str__(self) -> str:
        return f"{self.sentence}: {self.command}" if self.command else self.sentence


def alerts(status: Status) -> list[Alert]:
    """Return what needs an operator, most urgent first."""
    return [*_of_vitals(status.vitals), *_of_batches(status), *_of_deliveries(status)]


def _of_vitals(vitals: Vitals) -> Iterator[Alert]:
    if vitals.error is not None:
        yield Alert(AlertKind.REDIS_AWAY, f"Redis can't be used: {vitals.error}")
        return
    if not vitals.workers:
        yield Alert(AlertKind.NO_WORKER, "no worker answers", "carpool worker")
    if vitals.beat_age is None or vitals.beat_age > SILENT:
        length = "" if vitals.beat_age is None else f" has been silent for {age(vitals.beat_age * SECOND)}"
        yield Alert(AlertKind.BEAT_SILENT, f"beat{length or ' is silent'}, nothing moves", "carpool beat")
    if (oldest := vitals.oldest_age or 0.0) > STUCK_INBOX:
        length = age(oldest * SECOND)
        yield Alert(
            AlertKind.INBOX_STUCK, f"a request has been in the inbox for {length}: no worker takes it"
        )
    if vitals.quarantined:
        entries = counted(vitals.quarantined, "inbox entry", "inbox entries")
        yield Alert(AlertKind.ENTRIES_QUARANTINED, f"{entries} could not be taken", "carpool quarantine")


def _of_batches(status: Status) -> Iterator[Alert]:
    for view in status.lanes:
        if view.paused and not view.paused_by_operator:
            yield Alert(
                AlertKind.LANE_PAUSED, f"lane {view.lane} is paused: {view.reason}", subject=view.lane
            )
    for account, hidden in status.unseen.items():
        seen = counted(hidden.batches, "batch is", "batches are")
        sentence = f"{seen} seen by no API key of account {shown(account)}"
        yield Alert(AlertKind.BATCHES_UNSEEN, sentence, "carpool doctor", shown(account))
    for orphan in status.orphans:
        how = (
            "the tables have lost rows"
            if orphan.is_lost
            else "canceled"
            if orphan.settled_at
            else "not canceled yet"
        )
        if orphan.run_twice:
            ran = counted(orphan.run_twice, "request ran", "requests ran")
            sentence = f"{ran} twice: of batch {orphan.batch_id}, and in {orphan.claude_id} ({how})"
        else:
            sentence = f"batch {orphan.batch_id} has requests that {orphan.claude_id} has, too ({how})"
        command = f"carpool batches show {orphan.batch_id}"
        yield Alert(AlertKind.POSTED_TWICE, sentence, command, orphan.batch_id)
    for batch_id in status.long_in_doubt:
        sentence = f"batch {batch_id} has been in doubt for too long"
        yield Alert(AlertKind.BATCH_IN_DOUBT, sentence, f"carpool batches show {batch_id}", batch_id)
    if lost := sum(one.lost for one in status.calls):
        were = counted(lost, "answer of a call in real time was", "answers of calls in real time were")
        sentence = f"{were} lost since yesterday, and may have been billed"
        yield Alert(AlertKind.CALLS_LOST, sentence, "carpool requests --error answer_lost")
    for batch_id in status.overdue:
        sentence = f"batch {batch_id} should have ended"
        yield Alert(AlertKind.BATCH_OVERDUE, sentence, f"carpool batches show {batch_id}", batch_id)
    for batch_id in status.unread:
        sentence = f"the results of batch {batch_id} can't be read"
        yield Alert(AlertKind.BATCH_UNREAD, sentence, f"carpool batches show {batch_id}", batch_id)


def _of_deliveries(status: Status) -> Iterator[Alert]:
    if dead := status.deliveries.dead_lately:
        were = counted(dead, "delivery was", "deliveries were")
        sentence = f"{were} given up on since yesterday"
        yield Alert(AlertKind.DELIVERIES_GIVEN_UP, sentence, "carpool deliveries --state discarded")
    if stopped := status.deliveries.stopped_endpoints:
        sentence = counted(stopped, "webhook URL is stopped", "webhook URLs are stopped")
        yield Alert(AlertKind.ENDPOINTS_STOPPED, sentence, "carpool deliveries endpoints")
    if failing := status.deliveries.failing_endpoints:
        receivers = counted(failing, "receiver has", "receivers have")
        sentence = f"{receivers} taken no delivery for minutes, each try fails"
        yield Alert(AlertKind.ENDPOINTS_FAILING, sentence, "carpool deliveries endpoints")
    for reason in status.deliveries.full:
        yield Alert(AlertKind.QUEUE_FULL, reason.replace("not sent yet", "task callbacks wait"))
