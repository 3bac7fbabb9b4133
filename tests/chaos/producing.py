"""A producer that dies while it enqueues many: `python -m tests.chaos.producing FILE URL NTH`.

It writes the ids that Redis acknowledged to FILE as soon as it knows them, and kills itself at the NTH of its commands
and replies; what it knew by then must not be lost.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.traffic import requests

import carpool.client
from carpool import Producer, QueueFull, Webhook, entries, packer

CLIENT = "mortal"
REQUESTS = 120
ENTRY = 5
PIPELINE = 2
"""Requests in all, requests in an entry, entries in a pipeline: few, so that there are many moments to die at."""


class Mortal(packer.Packer):
    """A packer that dies before it hands out commands, before it settles their replies, or after."""

    moments = itertools.count()

    def commands(self) -> list[packer.Command]:
        """Die, or hand them out."""
        self.pass_by()
        return super().commands()

    def settle(self, replies: Sequence[Any]) -> None:
        """Die, or settle and record what is known, or die after that."""
        self.pass_by()
        known = len(self.accepted)
        super().settle(replies)
        with Path(sys.argv[1]).open("a") as file:
            file.writelines(f"{id_}\n" for id_ in list(self.accepted)[known:])
        self.pass_by()

    def pass_by(self) -> None:
        """Die if this is the moment."""
        if next(self.moments) == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    vars(entries).update(SEGMENT_REQUESTS=ENTRY)
    vars(packer).update(PIPELINE_ENTRIES=PIPELINE)
    vars(carpool.client).update(Packer=Mortal)
    full = suppress(QueueFull)  # where a scenario gives it a quota
    with full, Producer(client=CLIENT, allow_http=True, durable=True) as producer:
        producer.enqueue_many(requests(Random(int(sys.argv[3])), REQUESTS), callback=Webhook(sys.argv[2]))
