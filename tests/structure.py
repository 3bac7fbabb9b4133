"""What keeps the code readable and no other tool checks: `python -m tests.structure`, a part of `make check`.

- No module of the producer or the worker has more than 250 lines, migrations included; no file in tests/ more than 400.
- No two classes of the producer and the worker have one name, but for SHARED_NAMES, each with its reason.

What may stand at the top of `carpool_worker`, and who may import whom, import-linter holds (pyproject.toml).
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

MODULE_LINES = 250
TEST_LINES = 400
MOST_LINES = {"producer": MODULE_LINES, "worker": MODULE_LINES, "tests": TEST_LINES}
"""Lines that a Python file may have, by the folder that it is in."""

SHARED_NAMES = {
    "Request": "carpool.Request is what services enqueue, a public name; models.Request is the row it becomes",
}
"""Names of several classes, each with the reason why that is right."""


def complaints(root: Path = ROOT) -> list[str]:
    """Return a sentence for each rule that a file under `root` breaks."""
    return [*_too_long(root), *_homonyms(root)]


def main(root: Path = ROOT) -> int:
    """Print what is wrong; return 1 if anything is."""
    found = complaints(root)
    print("\n".join(found) or "Structure: the sizes of files and the names of classes are as they should be.")
    return int(bool(found))


def _too_long(root: Path) -> Iterator[str]:
    for folder, most in MOST_LINES.items():
        for path in sorted((root / folder).rglob("*.py")):
            lines = len(path.read_text().splitlines())
            if lines > most:
                where = path.relative_to(root)
                yield f"{where}: {lines} lines; a file in {folder}/ has at most {most}: split it by subject"


def _homonyms(root: Path) -> Iterator[str]:
    places: dict[str, list[str]] = defaultdict(list)
    for folder in ("producer", "worker"):
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(root)}:{node.lineno}")
    for name, found in sorted(places.items()):
        if len(found) > 1 and name not in SHARED_NAMES:
            yield f"{found[0]}: a class {name}, and another in {', '.join(found[1:])}; name each for what it is"
    for name in sorted(SHARED_NAMES):
        if len(places[name]) < 2:
            yield f"tests/structure.py: SHARED_NAMES allows {name}, which is no longer shared"


if __name__ == "__main__":
    sys.exit(main())
