"""The script that draws charts, Vega-Lite: made once on this machine from the wheel that brings it, kept in a file."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from aiohttp import web

from carpool_worker.console.static_files import FOREVER
from carpool_worker.exceptions import WorkerError

WHEEL = "vl-convert-python"
FOLDER_VARIABLE = "XDG_CACHE_HOME"
MAKING_SECONDS = 120.0
"""How long making it may take: 5 s of one CPU, and 164 MB of memory, which is why a process of its own does it."""


class ChartsUnavailable(WorkerError):
    """What draws charts could not be made; the numbers below each are all that it would show."""


def script_url() -> str:
    """Return where pages find it: under another URL once another version of the wheel is installed."""
    return f"/charts/{version(WHEEL)}.js"


class ChartScript:
    """The script as a file, packed with gzip. It belongs to one event loop."""

    def __init__(self) -> None:
        self._making: asyncio.Lock = asyncio.Lock()
        self._folder: Path | None = None

    async def path(self) -> Path:
        """Return the file; the first call on a machine makes it.

        Raises:
            ChartsUnavailable: it can't be made.
        """
        async with self._making:
            if self._folder is None:
                self._folder = await asyncio.to_thread(_writable_folder)
            path = self._folder / f"vega-{version(WHEEL)}.js.gz"
            if not path.exists():
                await _make(path)
            return path


async def answer(script: ChartScript) -> web.StreamResponse:
    """Answer with the script, packed: every browser of the last ten years unpacks it."""
    packed = await asyncio.to_thread((await script.path()).read_bytes)
    headers = {"Content-Encoding": "gzip", "Cache-Control": FOREVER}
    return web.Response(body=packed, content_type="text/javascript", charset="utf-8", headers=headers)


async def _make(path: Path) -> None:
    command = [sys.executable, "-m", "carpool_worker.console.chart_bundle", str(path)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        code = await asyncio.wait_for(process.wait(), MAKING_SECONDS)
    except TimeoutError:
        process.kill()
        code = await process.wait()
    if code:
        raise ChartsUnavailable


def _writable_folder() -> Path:
    cache = Path(os.environ.get(FOLDER_VARIABLE) or Path("~/.cache").expanduser())
    try:
        (cache / "carpool").mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(cache / "carpool", os.W_OK):
            return cache / "carpool"
    except (OSError, RuntimeError):  # a container's user has no home, or none that can be written
        pass
    return Path(tempfile.mkdtemp(prefix="carpool-console-"))
