"""The four state machines. Their guarded UPDATEs, CHECK constraints and diagrams come from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar


class BatchState(StrEnum):
    """Where a batch stands. `in_progress`, `canceling` and `ended` are Anthropic's processing_status, verbatim."""

    OPEN = "open"
    """The aggregator and the stager put requests into it, and seal it when it is full. The aggregator seals it when it
    is due, an operator at any time (`carpool flush`). Once all its requests are canceled, the canceler seals
    it."""
    SEALED = "sealed"
    """Its requests are fixed. The submitter posts it as soon as there is room at Anthropic, and no back-off, closed
    window, warm-up or pause of its lane blocks it. Once all its requests are canceled, the canceler dissolves it."""
    SUBMITTING = "submitting"
    """The intent to post it is committed. The submitter moves it on when the API answers; if the answer is lost, the
    rescuer does, once Anthropic's list of batches has shown whether it was made."""
    IN_PROGRESS = "in_progress"
    """Anthropic has it. The poller moves it on when Anthropic says that it has ended or is being canceled."""
    CANCELING = "canceling"
    """Anthropic is canceling it; answers made before are kept. The poller moves it on when Anthropic says it has
    ended."""
    ENDED = "ended"
    """Anthropic is done with it. The collector reads its results, then completes it. If they show that it was adopted
    by mistake, the collector releases it, and the rescuer searches on."""
    COMPLETED = "completed"
    """Final. Each of its requests was answered, rescheduled, or canceled before the batch was sent."""
    REJECTED = "rejected"
    """Final. Anthropic will never accept it as it is. Its requests went into smaller batches, or were discarded."""


class RequestState(StrEnum):
    """Where a request stands."""

    BATCHED = "batched"
    """It belongs to a batch, from `open` to `ended`. The collector moves it on when it reads its result. Before the
    batch is sent, the canceler can cancel it. If Anthropic rejects a batch of this request alone, the submitter
    discards it."""
    RETRYABLE = "retryable"
    """It got no final answer; the stager puts it into a new batch when its retry is due. A request that waits for its
    client's budget begins here: the budgeter releases it to the stager when the budget has room, or refuses it."""
    COMPLETED = "completed"
    """Final. It succeeded; its answer is kept."""
    DISCARDED = "discarded"
    """It failed for good, or too often; its last error is kept. It stays here unless an operator retries it."""
    CANCELED = "canceled"
    """Final. It was canceled, and will not run again."""


class DeliveryState(StrEnum):
    """Where an answer stands on its way to its callback."""

    AVAILABLE = "available"
    """It is due. A courier claims it when it is its receiver's turn. If its endpoint is stopped, it is given up."""
    DELIVERING = "delivering"
    """A courier has claimed it, and moves it on when the receiver responds, or gives it back unsent when its time is
    up. If the courier dies, the stage task's rescue makes it available again when the claim has expired."""
    RETRYABLE = "retryable"
    """The receiver did not take it. The stager makes it available again when its retry is due."""
    DELIVERED = "delivered"
    """Final. The receiver took it."""
    DISCARDED = "discarded"
    """It was tried too often, or the receiver no longer wants it. It stays here unless an operator replays it."""


class CallState(StrEnum):
    """Where a call of the Messages API stands, in real time; its request is `batched` until it ends."""

    AVAILABLE = "available"
    """It is due. A caller claims it when its account's rate limit and concurrency have room. If its deadline passes
    before, or its money is withdrawn, its request goes back into the pool; if that is canceled, so is this."""
    CALLING = "calling"
    """The intent to call is committed. The caller moves it on when the API answers; if the caller is gone, or the
    answer is lost, it is `lost`: it is never made again."""
    ANSWERED = "answered"
    """Final. The API answered with a message, which is billed."""
    REFUSED = "refused"
    """Final. The API refused the request for good, at no cost."""
    LOST = "lost"
    """Final. Nobody knows whether it was answered, and no list at Anthropic would tell. Its request ends with an error
    that says so, unless it is in a batch as well. An operator may retry the request, which may be a second bill."""
    RETURNED = "returned"
    """Final. It was not made: its request went back into the pool, or has stayed in its batch."""
    CANCELED = "canceled"
    """Final. It was not made: its request had ended, or was canceled."""


State = TypeVar("State", bound=StrEnum)


OUTCOMES = ("succeeded", "errored", "canceled", "expired")
"""Anthropic's words for how a request of a batch ended."""


@dataclass(frozen=True)
class Transition(Generic[State]):
    """A verb, the states it may start from and the one it ends in."""

    verb: str
    sources: tuple[State, ...]
    target: State


_B, _R, _D, _C = BatchState, RequestState, DeliveryState, CallState

SEAL = Transition("seal", (_B.OPEN,), _B.SEALED)
SUBMIT = Transition("submit", (_B.SEALED,), _B.SUBMITTING)
ACCEPT = Transition("accept", (_B.SUBMITTING,), _B.IN_PROGRESS)
POSTPONE = Transition("postpone", (_B.SUBMITTING,), _B.SEALED)
REJECT = Transition("reject", (_B.SUBMITTING,), _B.REJECTED)
CANCEL_BATCH = Transition("cancel", (_B.IN_PROGRESS,), _B.CANCELING)
END = Transition("end", (_B.IN_PROGRESS, _B.CANCELING), _B.ENDED)
RELEASE = Transition("release", (_B.ENDED,), _B.SUBMITTING)
COMPLETE_BATCH = Transition("complete", (_B.ENDED,), _B.COMPLETED)
DISSOLVE = Transition("dissolve", (_B.SEALED,), _B.COMPLETED)

COMPLETE = Transition("complete", (_R.BATCHED,), _R.COMPLETED)
RESCHEDULE = Transition("reschedule", (_R.BATCHED,), _R.RETRYABLE)
DISCARD = Transition("discard", (_R.BATCHED,), _R.DISCARDED)
CANCEL = Transition("cancel", (_R.BATCHED, _R.RETRYABLE), _R.CANCELED)
STAGE = Transition("stage", (_R.RETRYABLE,), _R.BATCHED)
RETRY = Transition("retry", (_R.DISCARDED,), _R.RETRYABLE)
REFUSE = Transition("refuse", (_R.RETRYABLE,), _R.DISCARDED)

CLAIM = Transition("claim", (_D.AVAILABLE,), _D.DELIVERING)
DELIVER = Transition("deliver", (_D.DELIVERING,), _D.DELIVERED)
SNOOZE = Transition("snooze", (_D.DELIVERING,), _D.RETRYABLE)
GIVE_UP = Transition("give up", (_D.DELIVERING,), _D.DISCARDED)
GIVE_BACK = Transition("give back", (_D.DELIVERING,), _D.AVAILABLE)
STOP = Transition("stop", (_D.AVAILABLE,), _D.DISCARDED)
MAKE_AVAILABLE = Transition("stage", (_D.RETRYABLE,), _D.AVAILABLE)
RESCUE = Transition("rescue", (_D.DELIVERING,), _D.AVAILABLE)
REPLAY = Transition("replay", (_D.DISCARDED,), _D.AVAILABLE)

CALL = Transition("call", (_C.AVAILABLE,), _C.CALLING)
ANSWER = Transition("answer", (_C.CALLING,), _C.ANSWERED)
REFUSE_CALL = Transition("refuse", (_C.CALLING,), _C.REFUSED)
CALL_AGAIN = Transition("postpone", (_C.CALLING,), _C.AVAILABLE)
LOSE = Transition("lose", (_C.CALLING,), _C.LOST)
RETURN = Transition("return", (_C.AVAILABLE, _C.CALLING), _C.RETURNED)
CANCEL_CALL = Transition("cancel", (_C.AVAILABLE,), _C.CANCELED)

BATCH_TRANSITIONS = (
    SEAL,
    SUBMIT,
    ACCEPT,
    POSTPONE,
    REJECT,
    CANCEL_BATCH,
    END,
    RELEASE,
    COMPLETE_BATCH,
    DISSOLVE,
)
REQUEST_TRANSITIONS = (COMPLETE, RESCHEDULE, DISCARD, CANCEL, STAGE, RETRY, REFUSE)
DELIVERY_TRANSITIONS = (
    CLAIM,
    DELIVER,
    SNOOZE,
    GIVE_UP,
    GIVE_BACK,
    STOP,
    MAKE_AVAILABLE,
    RESCUE,
    REPLAY,
)
CALL_TRANSITIONS = (CALL, ANSWER, REFUSE_CALL, CALL_AGAIN, LOSE, RETURN, CANCEL_CALL)

FIRST_STATES: Mapping[type[StrEnum], tuple[StrEnum, ...]] = {_R: (_R.BATCHED, _R.RETRYABLE)}
"""The states that new rows may have, where that is not only the first one."""

FINAL_REQUEST_STATES = (_R.COMPLETED, _R.DISCARDED, _R.CANCELED)
FINAL_DELIVERY_STATES = (_D.DELIVERED, _D.DISCARDED)
FINAL_CALL_STATES = (_C.ANSWERED, _C.REFUSED, _C.LOST, _C.RETURNED, _C.CANCELED)
FINISHED_BATCH_STATES = (_B.COMPLETED, _B.REJECTED)
OUT_BATCH_STATES = (_B.IN_PROGRESS, _B.CANCELING)
QUEUED_BATCH_STATES = (_B.SUBMITTING, *OUT_BATCH_STATES)


def diagram(transitions: tuple[Transition[State], ...]) -> str:
    """Return the machine as a Mermaid state diagram."""
    states = type(transitions[0].target)
    sources = {source for transition in transitions for source in transition.sources}
    lines = ["stateDiagram-v2", "    direction LR"]
    lines += [f"    [*] --> {first}" for first in FIRST_STATES.get(states, (next(iter(states)),))]
    for transition in transitions:
        lines += [f"    {source} --> {transition.target}: {transition.verb}" for source in transition.sources]
    lines += [f"    {state} --> [*]" for state in states if state not in sources]
    return "\n".join(lines)
