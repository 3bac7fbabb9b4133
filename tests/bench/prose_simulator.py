"""The simulator, its answers prose that differs from answer to answer: `python -m tests.bench.prose_simulator`.

The project's own answers the same to all requests, or as a script says: that packs far better than answers do.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from unittest.mock import patch

from tests.bench.corpus import SEED, texts
from tests.bench.payloads import ANSWER_CHARS

from carpool_worker.simulator import SimulatorOptions, runs, serve

QUEUE_LIMIT = 10_000_000
"""Requests that may be queued: an account's limit is not what is measured."""


def main() -> None:
    """Serve until a signal; the first line printed ends with the URL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that a batch takes")
    arguments = parser.parse_args()
    answers = itertools.cycle(texts(ANSWER_CHARS, SEED + 1))
    options = SimulatorOptions(data=arguments.data, latency=arguments.latency, queue_limit=QUEUE_LIMIT)
    with patch.object(runs, "answer_to", lambda _: next(answers)):
        serve(options)


if __name__ == "__main__":
    main()
