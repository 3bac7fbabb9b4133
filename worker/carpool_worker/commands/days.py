"""Days as operators write them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from carpool_worker.exceptions import WorkerError

AGO = re.compile(r"(\d{1,5})([hdw])")
HOURS = {"h": 1, "d": 24, "w": 7 * 24}


def day_of(option: str, written: str, now: datetime | None = None) -> str:
    """Return a day (UTC) as the ledger has it, '2026-11-22', from such a day, `today`, or so long ago: 36h, 7d, 2w.

    Raises:
        WorkerError: it is none of these.
    """
    at = now or datetime.now(UTC)
    if written == "today":
        return at.date().isoformat()
    if ago := AGO.fullmatch(written):
        return (at - timedelta(hours=int(ago[1]) * HOURS[ago[2]])).date().isoformat()
    try:
        return date.fromisoformat(written).isoformat()
    except ValueError as error:
        raise WorkerError(
            f"{option} {written}: say 2026-11-22, today, or so long ago: 36h, 7d, 2w"
        ) from error
