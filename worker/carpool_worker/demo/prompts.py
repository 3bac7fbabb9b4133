"""The demo's requests: 200 reviews to classify, in two halves, and files to summarise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, Literal

from carpool import Request
from carpool.contract import to_json
from carpool_worker.exceptions import WorkerError
from carpool_worker.money.costs import Tokens, price_of
from carpool_worker.units import DOLLAR

CLASSIFIER = "claude-haiku-4-5"
SUMMARISER = "claude-sonnet-4-5"
CLASSIFICATION_MAX_TOKENS = 16
SUMMARY_MAX_TOKENS = 400

MAX_FILE_BYTES = 200_000
CHARS_PER_TOKEN = 3
"""Fewer than usual, so that an estimate errs on the high side."""

PACKAGE = Path(__file__).parents[1]
PROJECT = PACKAGE.parents[1]
DEFAULT_FILES = (
    PROJECT / "README.md",
    PROJECT / "CHANGELOG.md",
    PROJECT / "config" / "carpool.toml",
    PACKAGE / "states.py",
    PACKAGE / "models" / "requests.py",
    PACKAGE / "processes" / "supervision.py",
)
"""The first three exist only in a clone of the project, not in an installed package."""


def classifications(half: Literal["first", "second"]) -> list[Request]:
    """Return a request for each review of this half."""
    reviews = resources(__package__).joinpath("reviews.txt").read_text().splitlines()
    middle = len(reviews) // 2
    chosen = reviews[:middle] if half == "first" else reviews[middle:]
    return [Request(_classification(review), metadata={"review": review}) for review in chosen]


def _classification(review: str) -> dict[str, Any]:
    instruction = "Is this review positive, negative or neutral? Answer with that one word.\n\nReview: "
    return {
        "model": CLASSIFIER,
        "max_tokens": CLASSIFICATION_MAX_TOKENS,
        "messages": [{"role": "user", "content": instruction + review}],
    }


def summaries(texts: Iterable[tuple[str, str]]) -> list[Request]:
    """Return a request for each (name, text)."""
    return [Request(_summary(name, text), metadata={"file": name}) for name, text in texts]


def _summary(name: str, text: str) -> dict[str, Any]:
    instruction = f"Summarise the file {name} in three bullet points of one sentence each.\n\n"
    return {
        "model": SUMMARISER,
        "max_tokens": SUMMARY_MAX_TOKENS,
        "messages": [{"role": "user", "content": instruction + text}],
    }


def read_files(chosen: Sequence[Path]) -> list[tuple[str, str]]:
    """Return the name and text of each file, or of the project's own if none is chosen.

    Raises:
        WorkerError: a file is missing, unreadable, empty, too large, or not text.
    """
    return [(path.name, _read(path)) for path in chosen or filter(Path.is_file, DEFAULT_FILES)]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise WorkerError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WorkerError(f"{path} is not text in UTF-8.") from error
    if len(content) > MAX_FILE_BYTES:
        raise WorkerError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes.")
    if "\0" in text or not text.strip():
        raise WorkerError(f"{path} contains no text.")
    return text


def highest_cost(requests: Iterable[Request]) -> Decimal:
    """Return what the requests can cost at most in batches, in dollars."""
    today = datetime.now(UTC).date()
    picodollars = 0
    for request in requests:
        size = len(to_json(request.params)) // CHARS_PER_TOKEN + 1
        tokens = Tokens(input_tokens=size, output_tokens=request.params["max_tokens"])
        price = price_of(tokens, request.params["model"], today)
        picodollars += price.cost if price else 0
    return Decimal(picodollars) / DOLLAR
