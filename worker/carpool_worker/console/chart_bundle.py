"""Makes the script that draws charts, in a process of its own: `python -m carpool_worker.console.chart_bundle FILE`."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""What the script leaves for others: what draws a specification."""


def make(path: Path) -> None:
    """Write Vega, Vega-Lite and Vega-Embed into the file, as one script, packed; it is there whole or not at all."""
    import vl_convert

    packed = gzip.compress(vl_convert.javascript_bundle(SNIPPET).encode(), mtime=0)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(packed)
    unfinished.replace(path)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
