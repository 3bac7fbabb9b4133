"""All batches: in memory what the API returns about them, on disk their requests and results."""

import secrets
import shutil
import string
from collections.abc import Iterator
from pathlib import Path

import msgspec

from carpool_worker.simulator.batches import SimulatedBatch
from carpool_worker.simulator.errors import no_such_batch
from carpool_worker.simulator.runs import BODY, INDEX

RECORD = "batch.json"
ID_CHARS = string.ascii_letters + string.digits


class Registry:
    """The batches, oldest first, each with its own folder; they are restored when the simulator is started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        restored = list(self._restore())
        self._batches = {batch.id: batch for batch in sorted(restored, key=lambda batch: batch.sequence)}
        self._last_sequence = max((batch.sequence for batch in restored), default=0)

    def new_id(self) -> str:
        """Return a new batch id in Anthropic's form, and make its folder."""
        batch_id = "msgbatch_01" + "".join(secrets.choice(ID_CHARS) for _ in range(22))
        self.folder(batch_id).mkdir()
        return batch_id

    def folder(self, batch_id: str) -> Path:
        """Return the folder of the batch's files."""
        return self._folder / batch_id

    def next_sequence(self) -> int:
        """Return the next batch's number, by which the list is ordered."""
        self._last_sequence += 1
        return self._last_sequence

    def find(self, batch_id: str, workspace: str | None = None) -> SimulatedBatch:
        """Return the batch, if it is of that workspace (None: of any); raise ApiError (404)."""
        batch = self._batches.get(batch_id)
        if batch is None or workspace not in (None, batch.workspace):
            raise no_such_batch()
        return batch

    def newest_first(self, workspace: str) -> list[SimulatedBatch]:
        """Return all batches of a workspace, in the order of the list."""
        return [batch for batch in reversed(self._batches.values()) if batch.workspace == workspace]

    def unfinished(self) -> list[SimulatedBatch]:
        """Return the batches that have not ended."""
        return [batch for batch in self._batches.values() if batch.ended_at is None]

    def queued_requests(self, workspace: str) -> int:
        """Return how many requests of all batches of a workspace are still to be processed."""
        return sum(
            batch.counts.processing for batch in self._batches.values() if batch.workspace == workspace
        )

    def save(self, batch: SimulatedBatch) -> None:
        """Store a batch, or its changes, and delete the requests of one that has ended."""
        record = self.folder(batch.id) / RECORD
        draft = record.with_suffix(".part")
        draft.write_bytes(msgspec.json.encode(batch))
        draft.rename(record)
        self._batches[batch.id] = batch
        if batch.ended_at is not None:
            for name in (BODY, INDEX):
                (self.folder(batch.id) / name).unlink(missing_ok=True)

    def delete(self, batch_id: str) -> None:
        """Delete the batch and its results."""
        self._batches.pop(batch_id, None)
        shutil.rmtree(self.folder(batch_id))

    def _restore(self) -> Iterator[SimulatedBatch]:
        for folder in self._folder.iterdir():
            record = folder / RECORD
            if record.exists():
                yield msgspec.json.decode(record.read_bytes(), type=SimulatedBatch)
            else:
                shutil.rmtree(folder)  # its create was never finished
