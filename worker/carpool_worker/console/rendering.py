"""Templates, and how they print numbers: as commands do, by formatting.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from carpool_worker import formatting

FILTERS: Mapping[str, Callable[..., Any]] = {
    "age": formatting.age,
    "counted": formatting.counted,
    "dollars": formatting.dollars,
    "short": formatting.short,
    "size": formatting.size,
    "time": formatting.time_of,
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
    return found
