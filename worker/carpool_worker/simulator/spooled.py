"""The requests of a batch, read back from disk and shuffled."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec

from carpool_worker.batch_bodies.spool import Bounds, decode_items
from carpool_worker.simulator.params import ParamsError, SimulatedParams, read_params

# How many parts, from anywhere in the body, are in memory at a time, with their requests shuffled.
PARTS_AT_ONCE = 4


class ReadableItem(msgspec.Struct, gc=False):
    """A request whose params have the right types."""

    custom_id: str
    params: SimulatedParams


ReadRequest = tuple[str, SimulatedParams | ParamsError]
_decode_readable = msgspec.json.Decoder(list[ReadableItem]).decode


def save_parts(parts: Bounds, path: Path) -> None:
    """Write where each part of the body begins and ends, 8 bytes each."""
    with path.open("wb") as file:
        parts.tofile(file)


def shuffled(body: Path, index: Path, seed: str) -> Iterator[list[ReadRequest]]:
    """Yield the requests of a few parts at a time, in an order that depends on the seed."""
    bounds = array("Q", index.read_bytes())
    random = Random(seed)  # noqa: S311 (not a secret)
    parts = list(zip(bounds[::2], bounds[1::2], strict=True))
    random.shuffle(parts)
    with body.open("rb") as file:
        for first in range(0, len(parts), PARTS_AT_ONCE):
            requests: list[ReadRequest] = []
            for start, end in parts[first : first + PARTS_AT_ONCE]:
                file.seek(start)
                requests += _read(b"[" + file.read(end - start) + b"]")
            random.shuffle(requests)
            yield requests


def _read(part: bytes) -> list[ReadRequest]:
    try:
        return [(item.custom_id, item.params) for item in _decode_readable(part)]
    except msgspec.ValidationError:
        return [(item.custom_id, read_params(item.params)) for item in decode_items(part)]
