"""Crash points by name, shared by all processes of a stack as files of a folder.

A worker records each point that it passes in `seen/`. A point is armed by a file in `armed/`; the first process to pass
it moves the file to `struck/`, which only one can do, and dies as the file says.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

MODES = ("child", "worker", "term", "freeze")
"""kill -9 of the process itself, kill -9 of its worker with all children, SIGTERM for its worker, SIGSTOP of itself."""


class Points:
    """The crash points of one stack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("seen", "armed", "struck", "frozen"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def arm(self, names: Iterable[str], mode: str) -> None:
        """Let each point strike once."""
        for name in names:
            (self.folder / "struck" / name).unlink(missing_ok=True)
            (self.folder / "armed" / name).write_text(mode)

    def disarm(self) -> None:
        """Let no point strike any longer."""
        for path in (self.folder / "armed").iterdir():
            path.unlink(missing_ok=True)

    def pass_by(self, name: str) -> str | None:
        """Record that a process passes a point; return how it is to die there, or None."""
        (self.folder / "seen" / name).touch()
        struck = self.folder / "struck" / name
        try:
            (self.folder / "armed" / name).rename(struck)
        except FileNotFoundError:
            return None
        return struck.read_text()

    def freeze(self, name: str, pid: int) -> None:
        """Record that a process is about to stop itself at a point."""
        (self.folder / "frozen" / name).write_text(str(pid))

    @property
    def frozen(self) -> dict[str, int]:
        """The points at which a process has stopped itself, and its process id."""
        return {path.name: int(path.read_text() or 0) for path in (self.folder / "frozen").iterdir()}

    @property
    def seen(self) -> list[str]:
        """The points that any process has passed, sorted."""
        return sorted(path.name for path in (self.folder / "seen").iterdir())

    @property
    def armed(self) -> list[str]:
        """The points that have not struck yet, sorted."""
        return sorted(path.name for path in (self.folder / "armed").iterdir())

    @property
    def struck(self) -> list[str]:
        """The points that have struck, sorted."""
        return sorted(path.name for path in (self.folder / "struck").iterdir())
