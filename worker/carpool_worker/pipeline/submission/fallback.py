"""Makes the calls that are due, in real time: claims them, commits the intent, calls, commits the answer.

The intent is in the table before the first byte leaves, under this run's name. A run that is killed leaves its calls
`calling`, and they are lost: see call_rescuer.py. No call is ever made again unless it is known not to have been made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, sleep
from uuid import uuid4

import sqlalchemy as sa
from kombu.exceptions import OperationalError as KombuError
from redis.exceptions import RedisError

from carpool_worker.claude.fence import Fence
from carpool_worker.claude.messages import Messages
from carpool_worker.claude.token_bucket import TokenBucket
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError
from carpool_worker.pipeline.collection.collector import Announce
from carpool_worker.pipeline.collection.replies import Replies
from carpool_worker.pipeline.submission.call_outcomes import record_answer, record_failure
from carpool_worker.pipeline.submission.call_rescuer import tidy
from carpool_worker.policies.real_time import LEASE, OVERTIME, RENEWAL, RealTimePolicy
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.requests import call_claims, segments
from carpool_worker.store.requests.call_claims import ClaimedCall
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds, after

log = get_logger(__name__)

RUN_SECONDS = 60.0
"""For so long a run begins calls; then it waits for those that are under way, and another run goes on."""

LOOK_SECONDS = 0.5
"""Between two looks at the queue while calls are under way."""

PERSIST_SECONDS = 600.0
"""For so long an answer is kept in memory that the database does not take: it is paid for."""

PAUSES = (0.05, 0.2, 1.0, 2.0, 5.0)
"""Seconds between the tries, the last again and again."""

PARAMS_GONE = "params_gone"
"""The error type of a request whose params were erased before it was called."""


@dataclass(frozen=True)
class Callers:
    """What calls an account's requests, and how many calls it may still make; None: the default account."""

    messages: Callable[[str | None], Messages]
    bucket: Callable[[str | None], TokenBucket]


def call_due(
    engine: sa.Engine,
    callers: Callers,
    policy: RealTimePolicy,
    announce: Announce,
    is_ending: Callable[[], bool] | None = None,
    seconds: float = RUN_SECONDS,
) -> int:
    """Make the calls that are due, several at once; return how many this run has made.

    Called by the task `carpool.call`, in any number of processes. Claiming a call commits the intent to make it, with
    this run's name and a lease, which is renewed while the run lives. What follows from the call is another
    transaction. A crash in between leaves it to the rescuer, as lost.

    It goes on for so many `seconds` while calls are due, unless its worker `is_ending`; then until those that are under
    way have ended.
    """
    tidy(engine, policy, announce)
    run = _Run(engine, callers, policy, _one_at_a_time(announce), monotonic() + seconds, is_ending)
    with ThreadPoolExecutor(policy.concurrency, thread_name_prefix="call") as threads:
        run.go(threads)
    return run.made


@dataclass
class _Run:
    """One run: which calls it has under way."""

    engine: sa.Engine
    callers: Callers
    policy: RealTimePolicy
    announce: Announce
    until: float  # by the monotonic clock; then it claims no more
    is_ending: Callable[[], bool] | None = None
    name: str = field(default_factory=lambda: uuid4().hex)
    made: int = 0
    under_way: dict[Future[None], tuple[ClaimedCall, float]] = field(default_factory=dict)
    renewed_at: float = field(default_factory=monotonic)

    def go(self, threads: ThreadPoolExecutor) -> None:
        """Claim and make calls until none is due and none under way."""
        while True:
            if monotonic() < self.until and not (self.is_ending and self.is_ending()):
                for one in self._claim_if_possible():
                    self.under_way[threads.submit(self._make, one)] = one, monotonic()
            if not self.under_way:
                return
            done, _ = wait(self.under_way, LOOK_SECONDS, FIRST_COMPLETED)
            for future in done:
                one, _ = self.under_way.pop(future)
                self.made += 1
                if error := future.exception():
                    log.error("call given up", request=one.request_id, error=type(error).__name__)
            self._renew()

    def _claim_if_possible(self) -> Iterator[ClaimedCall]:
        """Yield calls to make; none while Redis or the database is away, but then those under way are looked after.

        Raises:
            redis.RedisError, sqlalchemy.exc.OperationalError: it is away, and no call is under way.
        """
        try:
            yield from self._claim()
        except (RedisError, sa.exc.OperationalError) as error:
            if not self.under_way:
                raise
            log.warning("no more calls for now", under_way=len(self.under_way), error=type(error).__name__)

    def _claim(self) -> Iterator[ClaimedCall]:
        if self._free <= 0:
            return
        at = now()
        with read(self.engine) as connection:
            due = call_claims.due(connection, at)
            paused = list(lane_pauses.by_lane(connection))
        for account, count in due.items():
            if self.callers.messages(account).seconds_until_allowed() > 0:
                continue
            tokens, _ = self.callers.bucket(account).take(min(self._free, count))
            if tokens:
                yield from self._claim_of(account, tokens, at, paused)

    @property
    def _free(self) -> int:
        return self.policy.concurrency - len(self.under_way)

    def _claim_of(
        self, account: str | None, limit: int, at: Milliseconds, paused: list[str]
    ) -> list[ClaimedCall]:
        with write(self.engine) as connection:
            return call_claims.claim(
                connection,
                account,
                self.name,
                limit,
                at,
                concurrency=self.policy.concurrency,
                lease_until=after(at, LEASE),
                but_not=paused,
            )

    def _make(self, call: ClaimedCall) -> None:
        fence = Fence(self.policy.timeout, lambda: self._is_ours(call))
        try:
            params = self._params(call)
            answered = self.callers.messages(call.account).call(params, call.headers, call.key, fence)
        except ClaudeError as error:
            failure = error  # the name of an except clause is gone after it
            _persist(lambda: record_failure(self.engine, call, failure, self.announce))
        else:
            _persist(lambda: record_answer(self.engine, call, answered, self.announce))

    def _params(self, call: ClaimedCall) -> bytes:
        with read(self.engine) as connection:
            params = segments.body_of(connection, call.request_id)
        if not params:
            raise ClaudeError("the request's params were erased", kind=PARAMS_GONE, status=400)
        return params

    def _is_ours(self, call: ClaimedCall) -> bool:
        with read(self.engine) as connection:
            return call_claims.is_ours(connection, call)

    def _renew(self) -> None:
        if monotonic() - self.renewed_at < RENEWAL:
            return
        longest = self.policy.timeout + OVERTIME
        alive = [one for one, began_at in self.under_way.values() if monotonic() - began_at < longest]
        try:
            with write(self.engine) as connection:
                call_claims.renew(connection, alive, after(now(), LEASE))
        except sa.exc.OperationalError as error:
            log.warning("leases of calls not renewed", count=len(alive), error=type(error.orig).__name__)
        self.renewed_at = monotonic()


def _one_at_a_time(announce: Announce) -> Announce:
    """Return what announces from several threads; what fails is found by the next tick, as all is committed."""
    turn = Lock()

    def announce_alone(request_ids: Sequence[str], replies: Replies) -> None:
        try:
            with turn:
                announce(request_ids, replies)
        except (RedisError, KombuError) as error:
            log.warning("answers not announced", count=len(request_ids), error=type(error).__name__)

    return announce_alone


def _persist(record: Callable[[], None]) -> None:
    """Commit what became of a call, also when the database is away for a while.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it was away for too long; the rescuer will find the call.
    """
    give_up_at = monotonic() + PERSIST_SECONDS
    for pause in (*PAUSES, *(PAUSES[-1] for _ in range(int(PERSIST_SECONDS / PAUSES[-1])))):
        try:
            record()
        except (
            sa.exc.OperationalError,
            sa.exc.IntegrityError,
        ):  # IntegrityError: the id of a segment was taken
            if monotonic() > give_up_at:
                raise
            sleep(pause)
        else:
            return
    record()
