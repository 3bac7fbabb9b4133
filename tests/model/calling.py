"""Who calls in real time, as the model runs it: interrupted anywhere, several at once, or late and given up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any, Self

from tests.model.agents import Agents
from tests.model.interruptions import Fuse

from carpool_worker.claude.credentials import DEFAULT
from carpool_worker.claude.fence import Fence
from carpool_worker.claude.messages import KINDS, DirectMessage, Messages
from carpool_worker.claude.rate_limit import RateLimit
from carpool_worker.claude.token_bucket import TokenBucket
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.pipeline.batching import deadlines
from carpool_worker.pipeline.submission import call_outcomes, call_rescuer, fallback
from carpool_worker.pipeline.submission.fallback import Callers
from carpool_worker.policies.budgets import Budget
from carpool_worker.policies.deadlines import DeadlineRule
from carpool_worker.policies.durations import Histogram
from carpool_worker.policies.real_time import RealTimePolicy
from carpool_worker.store.requests import call_claims, segments
from carpool_worker.store.requests.call_claims import ClaimedCall
from carpool_worker.units import after

POLICY = RealTimePolicy(budgets={"default": Budget(day=Decimal(100))}, concurrency=2, per_minute=600_000)
LEASE_SECONDS = 60.0

CLOCKS = {"real_time_calls": ("due_at", "lease_until", "suspected_at")}
DEADLINES = {"real_time_calls": ("deadline",), "requests": ("deadline",), "batches": ("deadline",)}
MONTH = 30 * 24 * 3_600_000
"""Milliseconds: longer than any deadline."""


class AlwaysUrgent(DeadlineRule):
    """Whatever has a deadline is called, where its client allows that."""

    def calls_within(self, learned: Histogram) -> float:
        return MONTH / 1_000


class OneByOne:
    """In place of a ThreadPoolExecutor: it makes each call at once, so that a crash ends the run."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, make: Callable[[ClaimedCall], None], call: ClaimedCall) -> Future[None]:
        done: Future[None] = Future()
        make(call)
        done.set_result(None)
        return done


class PorousMessages(Messages):
    """A client whose calls can be interrupted, before the API has answered and after."""

    def __init__(self, fuse: Fuse, rate_limit: RateLimit) -> None:
        super().__init__(rate_limit, DEFAULT, 20.0)
        self._fuse = fuse

    def call(self, params: bytes, headers: Mapping[str, str], key: str, fence: Fence) -> DirectMessage:
        self._fuse.burn()
        answered = super().call(params, headers, key, fence)
        self._fuse.burn()
        return answered


@dataclass
class CallingAgents(Agents):
    """All agents, those of calls among them."""

    messages: PorousMessages = field(init=False)
    late: list[tuple[ClaimedCall, DirectMessage | ClaudeError | None]] = field(default_factory=list)
    names: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.messages = PorousMessages(self.fuse, RateLimit(self.server, "model:calls-limited", KINDS))

    @property
    def by_name(self) -> Mapping[str, Callable[[], None]]:
        calls = {name: partial(agent, self) for name, agent in CALLS.items()}
        return {**super().by_name, **calls}

    def call_urgent(self) -> None:
        deadlines.call_urgent(self.engine, AlwaysUrgent(), replace(POLICY, client_budgets=self.budgets))

    def call(self) -> None:
        bucket = TokenBucket(self.server, "model:calls-due", POLICY.per_minute, 10.0)
        callers = Callers(lambda _: self.messages, lambda _: bucket)
        fallback.call_due(self.engine, callers, POLICY, self._announce)

    def claim_and_hang(self) -> None:
        """Claim calls, and stand still before any is made."""
        self.late += [(one, None) for one in self._claim()]

    def call_and_hang(self) -> None:
        """Make calls, and stand still before what became of any is recorded."""
        self.late += [(one, self._answer(one)) for one in self._claim()]

    def go_on_late(self) -> None:
        """Let those go on that stood still: by now they may have been given up."""
        while self.late:
            call, answered = self.late.pop()
            answered = answered or self._answer(call)
            if isinstance(answered, ClaudeError):
                call_outcomes.record_failure(self.engine, call, answered, self._announce)
            else:
                call_outcomes.record_answer(self.engine, call, answered, self._announce)

    def give_up_calls(self) -> None:
        call_rescuer.rescue_calls(self.engine, self._announce)

    def hours_pass(self) -> None:
        super().hours_pass()
        self._turn_back(CLOCKS, 3 * 3_600_000)

    def deadlines_pass(self) -> None:
        self._turn_back(DEADLINES, MONTH)

    def _claim(self) -> list[ClaimedCall]:
        at = now()
        with write(self.engine) as connection:
            return call_claims.claim(
                connection,
                None,
                f"slow {next(self.names)}",
                1,
                at,
                concurrency=POLICY.concurrency,
                lease_until=after(at, LEASE_SECONDS),
            )

    def _answer(self, call: ClaimedCall) -> DirectMessage | ClaudeError:
        with read(self.engine) as connection:
            params = segments.body_of(connection, call.request_id)
        fence = Fence(20.0, lambda: self._is_ours(call))
        try:
            return self.messages.call(params or b"{}", call.headers, call.key, fence)
        except ClaudeError as error:
            return error

    def _is_ours(self, call: ClaimedCall) -> bool:
        with read(self.engine) as connection:
            return call_claims.is_ours(connection, call)


CALLS: dict[str, Callable[[CallingAgents], None]] = {
    name: getattr(CallingAgents, name)
    for name in ("call_urgent", "call", "claim_and_hang", "call_and_hang", "go_on_late", "give_up_calls")
}
