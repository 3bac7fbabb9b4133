"""Writes a batch's JSON body to a temporary file, so that posting 256 MB takes no memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import sqlalchemy as sa

from carpool_worker.database import read
from carpool_worker.prompt_cache.marking import mark
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests import bodies

SPOOL_BUFFER = 1 << 20
"""Bytes."""


@contextmanager
def spooled(engine: sa.Engine, batch_id: str) -> Iterator[tuple[IO[bytes], int]]:
    """Yield the body, at its start, and its length in bytes.

    The params are byte for byte as they were enqueued, except that the prefixes in the batch's cache plan are marked
    for the prompt cache.
    """
    with tempfile.TemporaryFile(buffering=SPOOL_BUFFER) as body:
        with read(engine) as connection:
            frame = b'{"requests":['
            marked = batches.marked(connection, batch_id)
            for custom_id, params in bodies.of_batch(connection, batch_id, marked):
                if marked:
                    params = mark(params, marked)
                body.write(b'%b{"custom_id":"%b","params":%b}' % (frame, custom_id.encode(), params))
                frame = b","
        body.write(b"]}")
        length = body.tell()
        body.seek(0)
        yield body, length
