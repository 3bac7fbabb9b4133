"""A batch's life: it is created, run when it is due, perhaps canceled or expired, and ends."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from random import Random
from time import time

from carpool_worker.batch_bodies.spool import Spooled
from carpool_worker.simulator.batches import SimulatedBatch, SimulatedCounts
from carpool_worker.simulator.errors import invalid
from carpool_worker.simulator.options import SimulatorOptions
from carpool_worker.simulator.registry import Registry
from carpool_worker.simulator.runs import INDEX, RunContext, RunStopped
from carpool_worker.simulator.spooled import save_parts


class Lifecycle:
    """Brings every batch to its end; one thread runs the requests, a batch at a time."""

    def __init__(self, options: SimulatorOptions, registry: Registry, context: RunContext) -> None:
        self._options = options
        self._registry = registry
        self._context = context
        self._random = Random(options.seed)  # noqa: S311 (not a secret)
        self._thread = ThreadPoolExecutor(1, "simulator-run")
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._canceled: dict[str, asyncio.Event] = {}

    def resume(self) -> None:
        """Watch the batches that were left unfinished when the simulator stopped."""
        for batch in self._registry.unfinished():
            self._watch(batch)

    def begin(self, batch_id: str, spooled: Spooled, betas: str, workspace: str) -> SimulatedBatch:
        """Create a batch of the requests whose body is in its folder."""
        save_parts(spooled.parts, self._registry.folder(batch_id) / INDEX)
        now = time()
        batch = SimulatedBatch(
            id=batch_id,
            sequence=self._registry.next_sequence(),
            size=spooled.size,
            created_at=now,
            expires_at=now + self._options.expiry_after,
            latency=self._draw_latency(),
            betas=betas,
            workspace=workspace,
            counts=SimulatedCounts(processing=spooled.size),
        )
        self._registry.save(batch)
        self._watch(batch)
        return batch

    def cancel(self, batch: SimulatedBatch) -> None:
        """Stop running the batch's requests; raise ApiError (400) if it has ended."""
        if batch.ended_at is not None:
            raise invalid("Ended batches cannot be canceled.")
        if batch.cancel_initiated_at is None:
            batch.cancel_initiated_at = time()
            self._registry.save(batch)
            self._canceled[batch.id].set()

    def archive(self, batch: SimulatedBatch) -> None:
        """Remove a batch's results, as Anthropic does 29 days after its creation."""
        batch.archived_at = time()
        self._registry.save(batch)

    async def stop(self) -> None:
        """Stop watching; an interrupted run starts over when the simulator is started again."""
        self._context.stopping.set()
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)

    def _watch(self, batch: SimulatedBatch) -> None:
        self._canceled[batch.id] = asyncio.Event()
        if batch.cancel_initiated_at is not None:
            self._canceled[batch.id].set()
        watch = asyncio.create_task(self._bring_to_end(batch))
        self._watches[batch.id] = watch
        watch.add_done_callback(lambda _: self._watches.pop(batch.id, None))

    async def _bring_to_end(self, batch: SimulatedBatch) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._canceled[batch.id].wait(), batch.stops_at - time())
            await asyncio.sleep(self._options.cancel_latency)
        folder = self._registry.folder(batch.id)
        with contextlib.suppress(RunStopped):
            counts = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._context.run, batch, folder
            )
            self._end(batch, counts)

    def _end(self, batch: SimulatedBatch, counts: SimulatedCounts) -> None:
        batch.counts = counts
        batch.ended_at = time()
        self._registry.save(batch)
        del self._canceled[batch.id]

    def _draw_latency(self) -> float:
        latency = self._options.latency
        return self._random.uniform(*latency) if isinstance(latency, tuple) else latency
