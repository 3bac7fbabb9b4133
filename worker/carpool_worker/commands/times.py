"""Times and days as operators write them."""

from __future__ import annotations

import re
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


def _length(ago: re.Match[str]) -> timedelta:
    return timedelta(seconds=int(ago[1]) * SECONDS[ago[2]])
