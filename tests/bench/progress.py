"""How far a stage is: a bar on a terminal, else a line for each tenth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

TENTHS = 10


class Bar:
    """Says how much of what is running is done."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self._console = console
        self._progress = progress
        self._task = progress.add_task("", total=1.0) if progress else None
        self._said = ("", 0)

    def show(self, what: str, share: float) -> None:
        """Show that this share (0 to 1) of this is done."""
        if self._progress and self._task is not None:
            self._progress.update(self._task, description=what, completed=share)
        elif (now := (what, int(share * TENTHS))) != self._said:
            self._said = now
            self._console.print(f"    {what}: {now[1] * TENTHS} %", highlight=False)


@contextmanager
def shown(console: Console) -> Iterator[Bar]:
    """Show a bar while this lasts."""
    if not console.is_terminal:
        yield Bar(console, None)
        return
    columns = (TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(console, progress)
