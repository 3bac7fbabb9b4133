"""`carpool usage --plot`: draws the picture of what was spent into a file, with Vega-Lite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carpool_worker.exceptions import WorkerError

PIXELS_PER_POINT = 2.0
"""So that a PNG is sharp on today's screens and on slides."""

KINDS = (".png", ".svg", ".pdf", ".html", ".json")


def check_kind(path: Path) -> None:
    """Raise WorkerError unless the file's name ends in one of KINDS, and what draws it is installed."""
    if path.suffix not in KINDS:
        raise WorkerError(f"--plot {path}: the name must end in {', '.join(KINDS)}")
    if path.suffix != ".json":
        _renderer()


def draw(spec: dict[str, Any], path: Path) -> None:
    """Draw a Vega-Lite specification; an .html has all that a browser needs, a .json is the specification itself.

    Raises:
        WorkerError: what draws it is not installed, or the file can't be written.
    """
    drawn = _drawn(spec, path.suffix)
    try:
        path.write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode())
    except OSError as error:
        raise WorkerError(f"--plot {path}: {error.strerror}") from error


def _drawn(spec: dict[str, Any], kind: str) -> bytes | str:
    if kind == ".json":
        return json.dumps(spec, indent=1)
    vega = _renderer()
    drawn: bytes | str
    match kind:
        case ".svg":
            drawn = vega.vegalite_to_svg(spec)
        case ".pdf":
            drawn = vega.vegalite_to_pdf(spec)
        case ".html":
            drawn = vega.vegalite_to_html(spec, bundle=True)
        case _:
            drawn = vega.vegalite_to_png(spec, scale=PIXELS_PER_POINT)
    return drawn


def _renderer() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise WorkerError("--plot needs what draws it: pip install 'carpool[worker]'") from error
    return vl_convert
