"""The diagrams of the states in docs/architecture.md: `make diagrams` writes them again from states.py."""

from __future__ import annotations

import re
from pathlib import Path

from carpool_worker.states import (
    BATCH_TRANSITIONS,
    CALL_TRANSITIONS,
    DELIVERY_TRANSITIONS,
    REQUEST_TRANSITIONS,
    diagram,
)

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"

DIAGRAMS = {
    "batches": diagram(BATCH_TRANSITIONS),
    "requests": diagram(REQUEST_TRANSITIONS),
    "calls": diagram(CALL_TRANSITIONS),
    "deliveries": diagram(DELIVERY_TRANSITIONS),
}


def with_diagrams(page: str) -> str:
    """Return the text with what stands between its `<!-- states: NAME -->` comments written again.

    Raises:
        ValueError: a diagram's marks are not there exactly once.
    """
    for name, mermaid in DIAGRAMS.items():
        mark, end = f"<!-- states: {name} -->", f"<!-- end of {name} -->"
        block = f"{mark}\n<!-- test: parse -->\n```mermaid\n{mermaid}\n```\n{end}"
        page, found = re.subn(f"{re.escape(mark)}.*?{re.escape(end)}", lambda _: block, page, flags=re.S)  # noqa: B023
        if found != 1:
            raise ValueError(f"{PAGE.name} has {found} places for the diagram of the {name}, not 1")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_diagrams(PAGE.read_text()))
