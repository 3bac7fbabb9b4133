"""A finding of the doctor: a line with a verdict and, unless all is well, how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, until something else happens
    WRONG = "wrong"  # it does not work, or a promise is not kept


@dataclass(frozen=True, slots=True)
class Finding:
    """What was examined, what was found, and how to fix it unless it is ok."""

    check: str
    verdict: Verdict
    what: str
    mend: str = ""


def ok(check: str, what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Verdict.OK, what)


def warning(check: str, what: str, mend: str) -> Finding:
    """Return a finding that should be fixed."""
    return Finding(check, Verdict.WARNING, what, mend)


def wrong(check: str, what: str, mend: str) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(check, Verdict.WRONG, what, mend)
