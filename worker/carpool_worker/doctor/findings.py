"""A finding of the doctor: a line with a verdict and, unless all is well, how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a status needs Celery: it takes a second to import
    from carpool_worker.views.alerts import AlertKind


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, until something else happens
    WRONG = "wrong"  # it does not work, or a promise is not kept


@dataclass(frozen=True, slots=True)
class Finding:
    """What was examined, what was found, and how to fix it unless it is ok; and the alert that says the same."""

    check: str
    verdict: Verdict
    what: str
    mend: str = ""
    alert: AlertKind | None = None  # of a status, which the overview shows already


def ok(check: str, what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Verdict.OK, what)


def warning(check: str, what: str, mend: str, alert: AlertKind | None = None) -> Finding:
    """Return a finding that should be fixed."""
    return Finding(check, Verdict.WARNING, what, mend, alert)


def wrong(check: str, what: str, mend: str, alert: AlertKind | None = None) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(check, Verdict.WRONG, what, mend, alert)
