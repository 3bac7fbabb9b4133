"""What the doctor finds: one line each."""

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
    """What was looked at, what was found, and how to mend it where it isn't ok."""

    check: str
    verdict: Verdict
    what: str
    mend: str = ""


def ok(check: str, what: str) -> Finding:
    """Return that it is as it should be."""
    return Finding(check, Verdict.OK, what)


def warning(check: str, what: str, mend: str) -> Finding:
    """Return that it should be otherwise."""
    return Finding(check, Verdict.WARNING, what, mend)


def wrong(check: str, what: str, mend: str) -> Finding:
    """Return that it must be otherwise."""
    return Finding(check, Verdict.WRONG, what, mend)
