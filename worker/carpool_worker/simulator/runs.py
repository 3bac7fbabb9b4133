"""Runs a batch: each request gets its outcome, its line in the results and its entry in the ledger."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import time
from typing import BinaryIO

import msgspec

from carpool_worker.simulator.answers import answer_to
from carpool_worker.simulator.batches import SimulatedBatch, SimulatedCounts
from carpool_worker.simulator.caching import CacheTokens, PrefixCache
from carpool_worker.simulator.json_examples import NoExampleError, example_of
from carpool_worker.simulator.ledger import Ledger, LedgerEntry
from carpool_worker.simulator.params import ParamsError, SimulatedParams, find_error
from carpool_worker.simulator.results import (
    Errored,
    SimulatedLine,
    Succeeded,
    Unrun,
    called,
    dictated,
    encode_lines,
    errored,
    refused,
    succeeded,
)
from carpool_worker.simulator.scripts import Script, Scripts
from carpool_worker.simulator.spooled import shuffled

BODY, INDEX, RESULTS = "body.json", "index.bin", "results.jsonl"
ANY_REQUEST = Script()
Outcome = tuple[SimulatedParams | None, Succeeded | Errored | Unrun]


class RunStopped(Exception):
    """The simulator is stopping; the batch will run from its beginning when it is started again."""


@dataclass
class RunContext:
    """What the runs of all batches share."""

    ledger: Ledger
    scripts: Scripts
    seed: int
    stopping: Event = field(default_factory=Event)
    cache: PrefixCache = field(default_factory=PrefixCache)

    def run(self, batch: SimulatedBatch, folder: Path) -> SimulatedCounts:
        """Write the results of a batch into its folder, and return its requests by outcome."""
        return BatchRun(self, batch, folder).perform()

    def answer(self, custom_id: str, number: str, params: SimulatedParams) -> Succeeded | Errored | Unrun:
        """Return the result of a request whose params are valid, as the scripts have it; `number` is of this run."""
        script = self.scripts.use(custom_id, params) or ANY_REQUEST
        match script.outcome:
            case "errored":
                return errored(number, script.error_type, script.message)
            case "expired" | "canceled":
                return Unrun(script.outcome)
        cached = self.cache.tokens(params, time())
        if script.outcome == "refused":
            return refused(number, params, cached)
        if script.content is not None:
            return dictated(number, params, script.content, cached)
        if script.text is not None:
            return succeeded(number, params, script.text, cached)
        return _answered(number, params, cached)


class BatchRun:
    """One batch, run once."""

    def __init__(self, context: RunContext, batch: SimulatedBatch, folder: Path) -> None:
        self._context = context
        self._batch = batch
        self._folder = folder
        self._left_to_run = batch.requests_run
        self._unrun = "expired" if batch.cancel_initiated_at is None else "canceled"
        self._counts = SimulatedCounts()

    def perform(self) -> SimulatedCounts:
        """Write results and ledger and return the counts; raise RunStopped, having written neither."""
        unfinished = self._folder / f"{RESULTS}.part"
        with unfinished.open("wb") as results:
            self._context.ledger.record(self._batch.id, self._chunks(results))
        unfinished.rename(self._folder / RESULTS)
        return self._counts

    def _chunks(self, results: BinaryIO) -> Iterator[list[LedgerEntry]]:
        seed = f"{self._context.seed} {self._batch.id}"
        for requests in shuffled(self._folder / BODY, self._folder / INDEX, seed):
            if self._context.stopping.is_set():
                raise RunStopped
            outcomes = [(custom_id, *self._outcome(custom_id, params)) for custom_id, params in requests]
            results.write(
                encode_lines([SimulatedLine(custom_id, result) for custom_id, _, result in outcomes])
            )
            yield [self._entry(*outcome) for outcome in outcomes]

    def _outcome(self, custom_id: str, params: SimulatedParams | ParamsError) -> Outcome:
        if self._left_to_run <= 0:
            return None, Unrun(self._unrun)
        self._left_to_run -= 1
        number = f"{self._batch.id[9:19]}{self._left_to_run:012d}"  # fits ids of 24 characters
        if isinstance(params, ParamsError):
            return None, errored(number, *params)
        if error := find_error(params, self._batch.betas):
            return None, errored(number, *error)
        return params, self._context.answer(custom_id, number, params)

    def _entry(
        self, custom_id: str, params: SimulatedParams | None, result: Succeeded | Errored | Unrun
    ) -> LedgerEntry:
        model = params.model if params else None
        if isinstance(result, Succeeded):
            self._counts.succeeded += 1
            usage = result.message.usage
            written, read = usage.cache_creation_input_tokens, usage.cache_read_input_tokens
            tokens = (usage.input_tokens, usage.output_tokens, written, read)
            return LedgerEntry(self._batch.id, custom_id, model, "succeeded", None, *tokens)
        if isinstance(result, Errored):
            self._counts.errored += 1
            return LedgerEntry(self._batch.id, custom_id, model, "errored", result.error.error.type)
        if result.type == "canceled":
            self._counts.canceled += 1
        else:
            self._counts.expired += 1
        return LedgerEntry(self._batch.id, custom_id, model, result.type)


def _answered(number: str, params: SimulatedParams, cached: CacheTokens) -> Succeeded | Errored:
    """Return an answer in the form that the request demands, if it demands one."""
    tool, schema = params.called_tool(), params.answer_schema()
    try:
        if tool is not None:
            return called(number, params, tool, cached)
        if schema is not None:
            return succeeded(number, params, msgspec.json.encode(example_of(schema)).decode(), cached)
    except NoExampleError as error:
        place = f"tools.{tool.name}.input_schema" if tool is not None else "output_config.format.schema"
        return errored(number, "invalid_request_error", f"{place}: {error}")
    return succeeded(number, params, answer_to(params.last_user_text()), cached)
