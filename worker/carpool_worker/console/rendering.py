"""Templates, and how they print numbers: as commands do, by formatting.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from carpool_worker import formatting
from carpool_worker.console import charts, static_files
from carpool_worker.database import now
from carpool_worker.units import SECOND

GOOD = {"completed", "delivered", "succeeded", "done", "ok", "valid", "answers", "taking calls"}
BUSY = {
    *("open", "sealed", "submitting", "in_progress", "ended", "batched", "available", "delivering", "begun"),
    *("queued", "submitted", "pooling", "pending"),
}
WARNING = {"retryable", "paused", "canceling", "warning", "held", "failing", "in_doubt", "near", "expired"}
BAD = {"errored", "discarded", "failed", "wrong", "rejected", "stopped", "dead", "silent", "over"}


def kind(word: str) -> str:
    """Return the class of a state's badge, by its word; quiet is whatever needs no colour, such as canceled."""
    kinds = (("good", GOOD), ("busy", BUSY), ("warning", WARNING), ("bad", BAD))
    return next((name for name, words in kinds if str(word) in words), "quiet")


def words(name: str) -> str:
    """Return a state's name for people: `in progress`."""
    return str(name).replace("_", " ")


def since(at: int) -> str:
    """Return how long ago a time was, or how soon it is: `3 min ago`, `in 2 h`."""
    passed = now() - at
    return f"{formatting.age(passed)} ago" if passed >= 0 else f"in {formatting.age(-passed)}"


LONGEST_ID = 16
"""Characters of an id that is shown whole."""


def brief(name: str) -> str:
    """Return an id with its middle left out: those that were made in the same moment differ at their ends alone."""
    return name if len(name) <= LONGEST_ID else f"{name[:8]}…{name[-6:]}"


def rate(a_minute: float) -> str:
    """Return how many there are a minute: `1,240/min`, `0.3/min`."""
    return f"{formatting.short(round(a_minute)) if a_minute >= 10 else f'{a_minute:.1f}'}/min"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "age": formatting.age,
    "brief": brief,
    "clock": lambda at: formatting.clock(at, now()),
    "counted": formatting.counted,
    "dollars": formatting.dollars,
    "json": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    "kind": kind,
    "mark": lambda text: static_files.digest(text.encode()),  # in the id of an element that is about it
    "outcomes": formatting.outcome_counts,
    "rate": rate,
    "short": formatting.short,
    "since": since,
    "size": formatting.size,
    "time": formatting.time_of,
    "took": lambda milliseconds: (
        f"{milliseconds:,} ms" if milliseconds < SECOND else formatting.age(milliseconds)
    ),
    "words": words,
}


def environment() -> jinja2.Environment:
    """Return Jinja with our templates: everything is escaped, and a name that isn't there is an error."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("carpool_worker.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(FILTERS)
    found.globals["static"] = static_files.url
    found.globals["chart_script"] = charts.script_url
    return found
