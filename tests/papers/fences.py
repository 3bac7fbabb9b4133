"""The fences of the papers: README.md, docs/ and what stands beside them. Each says what a test does with it.

The line above a fence is a comment that no renderer shows:

    <!-- test: run -->             executed, in the order of its page, beside a real `carpool up`
    <!-- test: run background -->  started, and left running until the page ends, once it says that it is ready
    <!-- test: parse -->           read: Python compiles and imports, commands and their options exist, data loads
    <!-- test: show -->            neither; listed in SHOWN, each with its reason
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAPERS = sorted(
    path.relative_to(PROJECT).as_posix()
    for pattern in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md")
    for path in PROJECT.glob(pattern)
)

FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
MARKER = re.compile(r"<!-- test: (run|run background|parse|show) -->\n(?:<!-- .* -->\n)?\Z")

SHOWN = {
    ("docs/clients.md", "import Anthropic from '@carpool/anthropic';"): (
        "Node, which `make programs` brings: producer/node's tests and docs/examples/node_batches.js run the like"
    ),
    ("docs/celery.md", "import { randomUUID } from 'node:crypto';"): (
        "Node with a package of its own; tests/tasks/test_enqueue.py sends the message of that page as it stands"
    ),
    ("docs/celery.md", "id := uuid.NewString()"): "Go, likewise",
    ("README.md", "Starting Carpool on this machine …"): (
        "what `make demo` prints; its numbers vary, and tests/acceptance/test_demo.py runs it"
    ),
    ("docs/gateway.md", "upstream carpool { server 127.0.0.1:8088; keepalive 64; }"): (
        "a configuration of nginx, which `make proxies` runs"
    ),
    ("docs/gateway.md", "carpool.example.com {"): "a configuration of Caddy, likewise",
    ("docs/gateway.md", "frontend carpool"): "a configuration of HAProxy, likewise",
    ("docs/gateway.md", "route: { cluster: carpool, timeout: 0s, idle_timeout: 120s }  # no retry_policy"): (
        "options of Envoy, likewise"
    ),
}
"""The fences that no test runs or reads: page and first line, and why."""


@dataclass(frozen=True)
class Fence:
    """A block of code in a paper, and what a test does with it (None: it does not say)."""

    paper: str
    line: int
    language: str
    text: str
    how: str | None

    def __str__(self) -> str:
        return f"{self.paper}:{self.line}"


def text_of(paper: str) -> str:
    return (PROJECT / paper).read_text()


def fences(paper: str) -> Iterator[Fence]:
    """Yield the fences of a paper in order."""
    text = text_of(paper)
    for match in FENCE.finditer(text):
        above = MARKER.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        yield Fence(paper, line, match[2], match[3], above[1] if above else None)


def all_fences(*hows: str | None) -> list[Fence]:
    """Return the fences of all papers that say one of these."""
    return [fence for paper in PAPERS for fence in fences(paper) if fence.how in hows]
