"""The simulator's state, which all calls share."""

from math import ceil
from time import time

from aiohttp import web

from carpool_worker.simulator.errors import ApiError
from carpool_worker.simulator.faults import ArmedFaults
from carpool_worker.simulator.ledger import Ledger
from carpool_worker.simulator.lifecycle import Lifecycle
from carpool_worker.simulator.options import SimulatorOptions
from carpool_worker.simulator.rates import SimulatedRateLimit
from carpool_worker.simulator.registry import Registry
from carpool_worker.simulator.runs import RunContext
from carpool_worker.simulator.scripts import Scripts
from carpool_worker.simulator.workspaces import Workspaces


class Simulator:
    """The parts of a simulator, put together."""

    def __init__(self, options: SimulatorOptions) -> None:
        self.registry = Registry(options.data / "batches")
        self.ledger = Ledger(options.data / "ledger.sqlite3")
        self.scripts = Scripts(options.scripts)
        self.faults = ArmedFaults(options.faults)
        self.workspaces = Workspaces(options.keys)
        self.rate_limit = SimulatedRateLimit(options.requests_per_minute)
        self.message_limit = SimulatedRateLimit(options.messages_per_minute)
        self.message_latency = options.message_latency
        self.runs = RunContext(self.ledger, self.scripts, options.seed)
        self.lifecycle = Lifecycle(options, self.registry, self.runs)
        self._queue_limit = options.queue_limit
        self.results_origin = options.results_origin

    def limit_of(self, operation: str) -> SimulatedRateLimit:
        """Return the rate limit that a call of an operation counts for."""
        return self.message_limit if operation == "messages" else self.rate_limit

    def admit(self, requests: int, workspace: str) -> None:
        """Raise ApiError (429) if this many more requests would exceed the queue limit of a workspace."""
        if self.registry.queued_requests(workspace) + requests <= self._queue_limit:
            return
        message = f"This request would exceed the limit of {self._queue_limit} requests queued in batches."
        raise ApiError(429, message, headers={"retry-after": str(self._seconds_to_next_end())})

    def _seconds_to_next_end(self) -> int:
        ends = [batch.stops_at for batch in self.registry.unfinished()]
        return max(1, ceil(min(ends) - time())) if ends else 1


SIMULATOR = web.AppKey("simulator", Simulator)
