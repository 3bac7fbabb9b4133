"""Faults: armed in advance, they strike the calls that they name."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Operation = Literal[
    "create",
    "retrieve",
    "list",
    "results",
    "cancel",
    "delete",
    "messages",
    "count_tokens",
    "list_models",
    "retrieve_model",
]
Kind = Literal[
    "dropped",
    "lost",
    "error",
    "error_after",
    "stalled",
    "slow",
    "truncated",
    "page",
    "cut_text",
    "bare",
    "rewritten",
    "stub",
    "repeated",
]
Form = Literal["array", "pretty", "bom", "blank_lines", "twice", "cut_cleanly"]

TRUNCATABLE: frozenset[Operation] = frozenset({"create", "results", "messages"})


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What goes wrong, with which operation, and how often.

    Kinds: `dropped` cuts the connection without performing the call; `lost` performs it, then cuts the connection;
    `error` answers `status` without performing it; `error_after` performs it, then answers `status`; `stalled` performs
    it and answers `seconds` later. For results only: `slow` spreads the body over `seconds`. For results, creates and
    calls of the Messages API: `truncated` performs the call, begins the answer and cuts the connection in the middle of
    a line.

    Proxies and relays: `page` performs the call and answers 200 with a page of HTML of `lines` lines; `cut_text`
    answers `status` without performing it, with a message that has a NUL and half a surrogate pair; `bare` performs a
    create or retrieve, and answers a batch of which only the id and the status are known; `stub` answers a list with an
    empty one; `repeated` performs a create twice, and answers the first. For results only, `rewritten` writes them in
    another `form`: as one JSON array, an object over several lines, with a byte order mark, with empty lines, each with
    a contradiction before it, or without the last line.

    An error has `retry_after` (seconds), `headers` and `error_code` if given: a spend cap is a 429 whose code is
    SPEND_LIMIT_REACHED. `skip` calls pass unharmed, then `times` are struck.
    """

    operation: Operation
    kind: Kind
    status: int = 500
    message: str | None = None
    error_code: str | None = None
    retry_after: float | None = None
    headers: dict[str, str] = {}
    seconds: float = 1.0
    lines: int = 40
    form: Form = "array"
    skip: int = 0
    times: int = 1

    def __post_init__(self) -> None:
        if self.kind in ("slow", "rewritten") and self.operation != "results":
            raise ValueError("a slow or rewritten answer is possible for results only")
        if self.kind == "bare" and self.operation not in ("create", "retrieve"):
            raise ValueError("a bare answer is possible for creates and retrieves only")
        if self.operation != {"stub": "list", "repeated": "create"}.get(self.kind, self.operation):
            raise ValueError("only lists can be stubs, and only creates be repeated")
        if self.kind == "truncated" and self.operation not in TRUNCATABLE:
            raise ValueError("a truncated answer is possible for results, creates and messages only")


class ArmedFaults:
    """The faults that are armed; the first one that matches a call strikes it."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults: list[Fault] = []
        self.arm(faults)

    def arm(self, faults: Iterable[Fault]) -> None:
        """Add faults after those already armed."""
        self._faults.extend(msgspec.structs.replace(fault) for fault in faults)

    def disarm(self) -> None:
        """Disarm all faults."""
        self._faults.clear()

    def waiting(self) -> list[Fault]:
        """Return the faults, with the skips and times that each has left."""
        return list(self._faults)

    def strike(self, operation: str) -> Fault | None:
        """Return the fault that strikes this call, and count it."""
        for fault in self._faults:
            if fault.operation == operation:
                return self._count(fault)
        return None

    def _count(self, fault: Fault) -> Fault | None:
        if fault.skip > 0:
            fault.skip -= 1
            return None
        fault.times -= 1
        if fault.times <= 0:
            self._faults.remove(fault)
        return fault
