"""Moments as operators write them, and ages as they read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

AGO = re.compile(r"(\d{1,5})([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

UNITS = ((2 * 86_400, 86_400, "d"), (2 * 3_600, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))
"""From so many seconds on an age is told in that unit."""


def moment_of(written: str) -> int:
    """Return a moment in milliseconds since the epoch, from how long ago it was (90m, 12h, 3d, 2w) or its date (UTC).

    Raises:
        typer.BadParameter: it is neither.
    """
    if ago := AGO.fullmatch(written):
        return int(datetime.now(UTC).timestamp() * 1_000) - int(ago[1]) * SECONDS[ago[2]] * 1_000
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        raise typer.BadParameter(
            f"{written}: say 90m, 12h, 3d or 2w ago, or 2026-11-22, or 2026-11-22T14:00"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def age(milliseconds: float) -> str:
    """Return a length of time in a few characters: 45 s, 12 min, 5 h, 3 d."""
    seconds = max(0, int(milliseconds / 1_000))
    _, size, unit = next(row for row in UNITS if seconds >= row[0])
    return f"{seconds // size} {unit}"


Since = Annotated[
    int | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        parser=moment_of,
        help="Only those since then: 90m, 12h, 3d or 2w ago, or a date (UTC).",
        show_default=False,
    ),
]
