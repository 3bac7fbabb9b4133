"""Decides what of an overview needs an operator. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from carpool_worker.formatting import age
from carpool_worker.units import SECOND
from carpool_worker.views.status import Overview
from carpool_worker.views.vitals import Signs

SILENT = 30.0
"""Seconds without a tick after which beat is taken for dead; it ticks each second."""

STUCK_INBOX = 60.0
"""Seconds after which a request in the inbox is too old: a worker takes it within one."""


def alarms(seen: Overview) -> list[str]:
    """Return what needs an operator, a sentence each, the gravest first."""
    return [*_of_signs(seen.signs), *_of_batches(seen), *_of_deliveries(seen)]


def _of_signs(signs: Signs) -> Iterator[str]:
    if signs.error is not None:
        yield f"Redis can't be used: {signs.error}"
        return
    if not signs.workers:
        yield "no worker answers: carpool worker"
    if signs.beat is None or signs.beat > SILENT:
        since = "is silent" if signs.beat is None else f"has been silent for {age(signs.beat * SECOND)}"
        yield f"beat {since}, nothing moves: carpool beat"
    if (signs.oldest or 0.0) > STUCK_INBOX:
        yield f"a request has been in the inbox for {age((signs.oldest or 0) * SECOND)}: nobody takes it"
    if signs.quarantined:
        yield f"{signs.quarantined:,} inbox entries could not be taken: carpool quarantine"


def _of_batches(seen: Overview) -> Iterator[str]:
    for view in seen.lanes:
        if view.pause and not view.pause.by_operator:
            yield f"lane {view.lane} is paused: {view.pause.reason}"
    for batch_id in seen.lost:
        yield f"batch {batch_id} is in doubt for too long: carpool batches show {batch_id}"
    for batch_id in seen.overdue:
        yield f"batch {batch_id} should have ended: carpool batches show {batch_id}"


def _of_deliveries(seen: Overview) -> Iterator[str]:
    if seen.deliveries.dead_lately:
        yield (
            f"{seen.deliveries.dead_lately:,} deliveries were given up on since yesterday: "
            "carpool deliveries --state discarded"
        )
    if seen.deliveries.stopped_endpoints:
        yield f"{seen.deliveries.stopped_endpoints:,} webhook URLs are stopped: carpool deliveries endpoints"
