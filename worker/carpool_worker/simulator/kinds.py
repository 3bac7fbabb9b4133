"""Faults by name, for whoever wants to see what becomes of them: `carpool up --fault KIND`."""

from collections.abc import Mapping
from typing import NamedTuple

from carpool_worker.simulator.errors import SPEND_LIMIT_REACHED
from carpool_worker.simulator.faults import Fault, Operation
from carpool_worker.simulator.scripts import Script

ALWAYS = 1_000_000_000
"""Times: until the faults are disarmed."""

SOME = 0.2
"""Of the requests, those that a script is about."""

CALLS: tuple[Operation, ...] = ("create", "retrieve", "list", "results", "cancel")


class Practice(NamedTuple):
    """What goes wrong."""

    faults: tuple[Fault, ...] = ()
    scripts: tuple[Script, ...] = ()


def _error(status: int, times: int, **more: object) -> Practice:
    return Practice((Fault(operation="create", kind="error", status=status, times=times, **more),))  # type: ignore[arg-type]


def _script(**what: object) -> Practice:
    return Practice(scripts=(Script(share=SOME, **what),))  # type: ignore[arg-type]


KINDS: Mapping[str, Practice] = {
    "wrong-key": Practice(
        tuple(Fault(operation=one, kind="error", status=401, times=ALWAYS) for one in CALLS)
    ),
    "no-credit": _error(402, ALWAYS),
    "spend-cap": _error(429, ALWAYS, error_code=SPEND_LIMIT_REACHED),
    "rate-limited": _error(429, 3, retry_after=5.0),
    "overloaded": _error(529, 3),
    "too-large": _error(413, 1),
    "down": Practice(tuple(Fault(operation=one, kind="dropped", times=ALWAYS) for one in CALLS)),
    "lost-create": Practice((Fault(operation="create", kind="lost"),)),
    "cut-results": Practice((Fault(operation="results", kind="truncated"),)),
    "slow-results": Practice((Fault(operation="results", kind="slow", seconds=20.0, times=ALWAYS),)),
    "errored": _script(outcome="errored", times=1),
    "invalid": _script(
        outcome="errored",
        error_type="invalid_request_error",
        message="messages: practised with --fault invalid",
    ),
    "expired": _script(outcome="expired", times=1),
    "refusal": _script(outcome="refused"),
}
"""By name; processes/practices.py explains each."""
