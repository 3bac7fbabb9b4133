"""The requests of a batch on disk: the body as it came, and an index of where each begins and ends."""

from array import array
from collections.abc import Iterator
from itertools import islice
from mmap import ACCESS_READ, MADV_DONTNEED, mmap
from pathlib import Path
from random import Random

from carpool_worker.simulator.bodies import Bounds, Item, decode_item

CHUNK_REQUESTS = 500


def save_index(bounds: Bounds, path: Path) -> None:
    """Write the index: start and end of each request, 8 bytes each."""
    with path.open("wb") as file:
        bounds.tofile(file)


def shuffled(body: Path, index: Path, seed: str) -> Iterator[list[Item]]:
    """Yield the requests in an order that the seed decides, in chunks, without keeping any in memory."""
    bounds = array("Q", index.read_bytes())
    order = iter(_order(len(bounds) // 2, seed))
    with body.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as text:
        while places := list(islice(order, CHUNK_REQUESTS)):
            yield [decode_item(text[bounds[2 * place] : bounds[2 * place + 1]]) for place in places]
            text.madvise(MADV_DONTNEED)  # else all that was read counts as this process' memory


def _order(size: int, seed: str) -> list[int]:
    order = list(range(size))
    Random(seed).shuffle(order)  # noqa: S311 (not a secret)
    return order
