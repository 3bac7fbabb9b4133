"""The diagrams of the states in README.md: `python -m tests.readme_diagrams` writes them again from states.py."""

from __future__ import annotations

import re
from pathlib import Path

from carpool_worker.states import BATCH_TRANSITIONS, DELIVERY_TRANSITIONS, REQUEST_TRANSITIONS, diagram

README = Path(__file__).parents[1] / "README.md"

DIAGRAMS = {
    "batches": diagram(BATCH_TRANSITIONS),
    "requests": diagram(REQUEST_TRANSITIONS),
    "deliveries": diagram(DELIVERY_TRANSITIONS),
}


def with_diagrams(readme: str) -> str:
    """Return the text with what stands between its `<!-- states: NAME -->` marks written anew.

    Raises:
        ValueError: a diagram's marks are not there exactly once.
    """
    for name, mermaid in DIAGRAMS.items():
        mark, end = f"<!-- states: {name} -->", f"<!-- end of {name} -->"
        block = f"{mark}\n```mermaid\n{mermaid}\n```\n{end}"
        readme, found = re.subn(f"{re.escape(mark)}.*?{re.escape(end)}", lambda _: block, readme, flags=re.S)  # noqa: B023
        if found != 1:
            raise ValueError(f"README.md has {found} places for the diagram of the {name}, not 1")
    return readme


if __name__ == "__main__":
    README.write_text(with_diagrams(README.read_text()))
