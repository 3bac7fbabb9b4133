"""Times and days as operators write them."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta

import typer

from carpool_worker.exceptions import WorkerError

AGO = re.compile(r"(\d{1,5})([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def moment_of(written: str) -> int:
    """Return a time in milliseconds since the epoch, from how long ago it was (90m, 12h, 3d, 2w) or its date (UTC).

    Raises:
        typer.BadParameter: it is neither.
    """
    if ago := AGO.fullmatch(written):
        return int((datetime.now(UTC) - _length(ago)).timestamp() * 1_000)
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        raise typer.BadParameter(
            f"{written}: write 90m, 12h, 3d or 2w for so long ago, or 2026-11-22, or 2026-11-22T14:00"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def day_of(option: str, written: str, now: datetime | None = None) -> str:
    """Return a day (UTC) as the ledger has it, '2026-11-22': from such a day, `today`, or how long ago (36h, 7d, 2w).

    Raises:
        WorkerError: it is none of these.
    """
    at = now or datetime.now(UTC)
    if written == "today":
        return at.date().isoformat()
    if (ago := AGO.fullmatch(written)) and ago[2] in "hdw":
        return (at - _length(ago)).date().isoformat()
    try:
        return date.fromisoformat(written).isoformat()
    except ValueError as error:
        raise WorkerError(
            f"{option} {written}: write 2026-11-22, today, or 36h, 7d, 2w for so long ago"
        ) from error


def days_of_month(option: str, written: str, now: datetime | None = None) -> tuple[str, str]:
    """Return the first and the last day of a month, '2026-11-01' and '2026-11-30': of 2026-11, `this` or `last`.

    Raises:
        WorkerError: it is none of these.
    """
    first = (now or datetime.now(UTC)).date().replace(day=1)
    if written == "last":
        first = (first - timedelta(1)).replace(day=1)
    elif written != "this":
        try:
            first = datetime.strptime(written, "%Y-%m").replace(tzinfo=UTC).date()
        except ValueError as error:
            raise WorkerError(f"{option} {written}: write 2026-11, this or last") from error
    return first.isoformat(), first.replace(day=monthrange(first.year, first.month)[1]).isoformat()


def _length(ago: re.Match[str]) -> timedelta:
    return timedelta(seconds=int(ago[1]) * SECONDS[ago[2]])
