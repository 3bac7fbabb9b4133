"""Segments: the bodies of up to 200 requests, packed and compressed together.

The params of alike requests are packed by the producer, and stored as they were packed; the answers of alike requests
are packed by the collector. Packed together they take a third of what they take alone, and one row holds them all.

A segment is one Zstandard frame (RFC 8878), whose content is, in little endian: the number of bodies (32 bits), the
length of each (32 bits), and the bodies.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import zstandard

SEGMENT_REQUESTS = 200
SEGMENT_BYTES = 256_000
"""A segment is closed before it exceeds either; a single larger body has a segment of its own."""

MAX_BODY_BYTES = 64_000_000
"""The longest body that is read: twice the Messages API's limit for a request (32 MB)."""

ERASED = b""
"""What is in a segment in place of a body that was erased."""

_LEVEL = 1
"""Level 3 takes half as long again, and saves nothing on prompts and answers."""

_NUMBER = struct.calcsize("<I")


class SegmentMalformed(ValueError):
    """These bytes are no segment, or one that breaks its limits."""


def pack(bodies: Sequence[bytes]) -> bytes:
    """Return a segment with these bodies, in their order.

    Raises:
        ValueError: they are none, or more than a segment may have, and so nobody could read them again.
    """
    lengths = struct.pack(f"<{len(bodies) + 1}I", len(bodies), *map(len, bodies))
    content = b"".join((lengths, *bodies))
    is_long = len(bodies) > 1 and len(content) - len(lengths) > SEGMENT_BYTES
    if is_long or not 0 < len(bodies) <= SEGMENT_REQUESTS:
        raise ValueError(f"{len(bodies):,} bodies of {len(content):,} bytes are no segment")
    return _local.compressor.compress(content)


def unpack(segment: bytes) -> list[bytes]:
    """Return the bodies of a segment.

    What it says of its size is checked before anything is decompressed, so that a few bytes can't claim gigabytes.

    Raises:
        SegmentMalformed: it is damaged, of another format, or beyond the limits of this module.
    """
    content = _decompressed(segment)
    try:
        [count] = struct.unpack_from("<I", content)
        if not 0 < count <= SEGMENT_REQUESTS:
            raise SegmentMalformed(f"it has {count:,} bodies; 1 to {SEGMENT_REQUESTS} are allowed")
        lengths = struct.unpack_from(f"<{count}I", content, _NUMBER)
    except struct.error:
        raise SegmentMalformed("it is cut short") from None
    start = _NUMBER * (1 + count)
    if start + sum(lengths) != len(content):
        raise SegmentMalformed("its lengths don't add up")
    if count > 1 and len(content) - start > SEGMENT_BYTES:
        raise SegmentMalformed(f"several bodies must have {SEGMENT_BYTES:,} bytes together at most")
    ends = accumulate(lengths, initial=start)
    return [content[end : end + length] for end, length in zip(ends, lengths, strict=False)]


def without(segment: bytes, positions: Iterable[int]) -> bytes:
    """Return the segment with the bodies at these positions erased; the others keep their positions."""
    bodies = unpack(segment)
    for position in positions:
        bodies[position] = ERASED
    return pack(bodies)


def spans(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield slices of consecutive bodies of these sizes, each of which fits into one segment."""
    start = size = 0
    for at, one in enumerate(sizes):
        if at > start and (at - start == SEGMENT_REQUESTS or size + one > SEGMENT_BYTES):
            yield slice(start, at)
            start, size = at, 0
        size += one
    if start < len(sizes):
        yield slice(start, len(sizes))


def _decompressed(segment: bytes) -> bytes:
    try:
        size = zstandard.frame_content_size(segment)
        if not 0 < size <= MAX_BODY_BYTES + _NUMBER * (1 + SEGMENT_REQUESTS):
            raise SegmentMalformed(f"a segment can't be {size:,} bytes")
        return _local.decompressor.decompress(segment, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise SegmentMalformed(f"it is no Zstandard frame: {error}") from None


class _Contexts(threading.local):
    """Zstandard's contexts, of which each thread needs its own."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_local = _Contexts()
