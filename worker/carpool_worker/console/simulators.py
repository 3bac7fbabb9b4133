"""Whether a simulator answers in Anthropic's place."""

from __future__ import annotations

import os


def simulator_url() -> str | None:
    """Return where the simulator of this `carpool up` is; None if the real API is used."""
    url = os.environ.get("CARPOOL_SIMULATOR_URL")
    return url if url and url == os.environ.get("ANTHROPIC_BASE_URL") else None
