"""Writes the files that operators start from: settings, Redis, Flower, Prometheus, Grafana, Kubernetes, systemd.

They are those of `config/` in the repository, which the wheel carries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from carpool_worker.exceptions import WorkerError

PACKAGED = Path(__file__).parents[1] / "config"
CHECKOUT = Path(__file__).parents[3] / "config"
"""Where the files are in an installed wheel, and in a clone."""

PARTS = ("carpool.toml", "redis.conf", "redis", "flower.py", "prometheus", "grafana", "kubernetes", "systemd")
"""What can be asked for: files, and folders of files."""


class FileState(StrEnum):
    """What became of a file."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"  # it was there already, the same to the byte


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file below the folder, and what became of it."""

    path: Path
    state: FileState


def write_config(folder: Path, parts: Sequence[str] = PARTS, replace: bool = False) -> list[ConfigFile]:
    """Write the parts below the folder, which is made where it isn't there; all of them or none.

    Raises:
        WorkerError: there is no such part, or a file is there with other contents and `replace` is False.
    """
    for part in parts:
        if part not in PARTS:
            raise WorkerError(f"{part}: there is no such file; there are {', '.join(PARTS)}")
    found = {path: path.read_bytes() for part in parts for path in _files(source() / part)}
    targets = {folder / path.relative_to(source()): contents for path, contents in found.items()}
    same = {path for path, contents in targets.items() if path.is_file() and path.read_bytes() == contents}
    changed = [str(path) for path in targets if path.exists() and path not in same]
    if changed and not replace:
        raise WorkerError(
            f"{', '.join(changed)}: there already, and not as Carpool brings it; --force replaces it"
        )
    for path, contents in targets.items():
        if path not in same:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents)
    return [
        ConfigFile(path, FileState.UNCHANGED if path in same else FileState.WRITTEN)
        for path in sorted(targets)
    ]


def source() -> Path:
    """Return the folder that the files are copied from."""
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT


def _files(part: Path) -> Iterator[Path]:
    return iter([part]) if part.is_file() else (path for path in sorted(part.rglob("*")) if path.is_file())
