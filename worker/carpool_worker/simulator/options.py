"""The simulator's options."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from carpool_worker.simulator.faults import Fault
from carpool_worker.simulator.scripts import Script
from carpool_worker.simulator.workspaces import ApiKey

DAY_SECONDS = 24 * 60 * 60

# The rate limits of the tier "Start" (Anthropic's documentation of August 2026).
START_QUEUED_REQUESTS = 200_000
START_HTTP_REQUESTS_PER_MINUTE = 1_000
START_MESSAGES_PER_MINUTE = 1_000


@dataclass(frozen=True, kw_only=True)
class SimulatorOptions:
    """How the simulator behaves; all times are in seconds.

    `latency` is how long a batch takes: a number, or a range to draw from; `message_latency` the same for a call of the
    Messages API, which has a rate limit of its own. `cancel_latency` is how long a canceled batch takes to end. Port 0
    picks a free one. What is in the data folder survives a restart.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    latency: float | tuple[float, float] = 0.0
    cancel_latency: float = 1.0
    expiry_after: float = DAY_SECONDS
    queue_limit: int = START_QUEUED_REQUESTS
    requests_per_minute: int = START_HTTP_REQUESTS_PER_MINUTE
    message_latency: float | tuple[float, float] = 0.0
    messages_per_minute: int = START_MESSAGES_PER_MINUTE
    seed: int = 0
    results_origin: str | None = None  # where every results_url points, if not here: as behind a relay
    faults: Sequence[Fault] = ()
    scripts: Sequence[Script] = ()
    keys: Sequence[ApiKey] = ()
