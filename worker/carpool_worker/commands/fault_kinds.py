"""The faults that can be practised by name, as an option of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from carpool_worker.processes.practices import KINDS


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
