"""Moments as operators write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

AGO = re.compile(r"(\d{1,5})([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


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
