"""The requests of a batch on disk: the body as it came, and an index of where each begins and ends."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import BinaryIO

from carpool_worker.simulator.bodies import Bounds, Item, decode_item

# Neighbours are read together, and mixed with those read from elsewhere: no read a request, little memory.
STRETCH_BYTES = 128_000
STRETCHES_AT_ONCE = 8


def save_index(bounds: Bounds, path: Path) -> None:
    """Write the index: start and end of each request, 8 bytes each."""
    with path.open("wb") as file:
        bounds.tofile(file)


def shuffled(body: Path, index: Path, seed: str) -> Iterator[list[Item]]:
    """Yield the requests in an order that the seed decides, in chunks, without keeping any in memory."""
    bounds = array("Q", index.read_bytes())
    random = Random(seed)  # noqa: S311 (not a secret)
    stretches = list(_stretches(bounds))
    random.shuffle(stretches)
    with body.open("rb") as file:
        for start in range(0, len(stretches), STRETCHES_AT_ONCE):
            together = stretches[start : start + STRETCHES_AT_ONCE]
            items = [item for stretch in together for item in _read(file, stretch)]
            random.shuffle(items)
            yield items


def _stretches(bounds: Bounds) -> Iterator[Bounds]:
    """Cut the index where about so many bytes have come together."""
    first = 0
    for end in range(2, len(bounds) + 1, 2):
        if bounds[end - 1] - bounds[first] >= STRETCH_BYTES or end == len(bounds):
            yield bounds[first:end]
            first = end


def _read(file: BinaryIO, stretch: Bounds) -> Iterator[Item]:
    origin = stretch[0]
    file.seek(origin)
    text = file.read(stretch[-1] - origin)
    for start, end in zip(stretch[::2], stretch[1::2], strict=True):
        yield decode_item(text[start - origin : end - origin])
