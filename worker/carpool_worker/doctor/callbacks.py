"""Examines what callbacks need: a secret to sign webhooks with, and URLs that accept them."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from carpool_worker.database import now, read
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.formatting import clock, counted
from carpool_worker.settings import Settings
from carpool_worker.store.deliveries import endpoints
from carpool_worker.store.reports import doctor
from carpool_worker.views.alerts import AlertKind

CHECK = "webhooks"
MAKE_ONE = "set CARPOOL_WEBHOOK_SECRET to whsec_ and the output of: openssl rand -base64 32"
SEVERAL = 2
"""How many secrets a rotation needs."""


def examine(engine: sa.Engine, settings: Settings) -> Iterator[Finding]:
    """Examine the secrets, and the receivers that are stopped or fail."""
    with read(engine) as connection:
        waits = doctor.waits_for_a_secret(connection)
        troubles = endpoints.troubles(connection)
        at = now()
    stopped = [one.url for one in troubles if one.stopped_at]
    failing = [
        one for one in troubles if not one.stopped_at and (one.failing_since or at) <= at - endpoints.FAILING
    ]
    yield judge_secrets(len(settings.webhook_secret), waits)
    if stopped:
        urls = f"{counted(len(stopped), 'URL')} to which deliveries are stopped"
        what = f"answers wait for {urls}, such as {stopped[0]}"
        mend = "once they work again: carpool deliveries replay --endpoint URL"
        yield wrong(CHECK, what, mend, AlertKind.ENDPOINTS_STOPPED)
    if failing:
        first = failing[0]
        receivers = counted(len(failing), "receiver")
        what = f"deliveries fail at {receivers}, such as {first.url}, since {clock(first.failing_since or at, at)}"
        mend = "see why: carpool deliveries --state retryable, carpool deliveries show REQUEST"
        yield wrong(CHECK, what, mend, AlertKind.ENDPOINTS_FAILING)


def judge_secrets(secrets: int, waits: bool) -> Finding:
    """Judge the number of secrets; their form is checked with the settings."""
    if not secrets and waits:
        return wrong(CHECK, "answers wait for a secret to sign them with", MAKE_ONE)
    if not secrets:
        return ok(CHECK, "no secret is set, and no request asks for a webhook")
    if secrets > SEVERAL:
        what = f"{secrets} secrets are set, and receivers accept any of them"
        return warning(CHECK, what, "keep the newest two, and only one once the rotation is over")
    rotation = ", as in a rotation" if secrets == SEVERAL else ""
    return ok(CHECK, f"signed with {secrets} secret{'s' if rotation else ''}{rotation}")
