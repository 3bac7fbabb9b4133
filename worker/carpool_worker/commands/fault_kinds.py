"""The faults that can be practised by name. simulator/kinds.py has what they do, and takes long to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

KINDS: Mapping[str, str] = {
    "wrong-key": "every call is answered 401, as with a wrong API key, until you disarm it",
    "no-credit": "batches are refused with 402, as without credit, until you disarm it",
    "spend-cap": "batches are refused as over the spend limit, until you disarm it",
    "rate-limited": "the next 3 batches are refused with 429 and a Retry-After of 5 s",
    "overloaded": "the next 3 batches are refused with 529",
    "too-large": "the next batch is refused with 413, and is split",
    "down": "every connection is cut, until you disarm it",
    "lost-create": "the next batch is made, and the answer that says so is lost",
    "cut-results": "the next results break off in the middle of a line",
    "slow-results": "results take 20 s to come",
    "errored": "a fifth of the requests fail at their first try, and succeed later",
    "invalid": "a fifth of the requests are invalid to Anthropic, for good",
    "expired": "a fifth of the requests expire at their first try",
    "refusal": "the model refuses a fifth of the requests",
}


def fault_kind(name: str) -> str:
    """Return the name of a fault as it is; raises typer.BadParameter."""
    if name not in KINDS:
        raise typer.BadParameter(f"there is no fault {name!r}; there are {', '.join(KINDS)}")
    return name


def complete_fault(incomplete: str) -> list[tuple[str, str]]:
    """Return the names that begin like this."""
    return [(name, what) for name, what in KINDS.items() if name.startswith(incomplete)]


FaultKinds = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="KIND",
        parser=fault_kind,
        autocompletion=complete_fault,
        help=f"What should go wrong at the simulator, to practise it: {', '.join(KINDS)}. May be repeated.",
        show_default=False,
    ),
]
