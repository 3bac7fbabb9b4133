"""The three state machines. Their guarded UPDATEs, CHECK constraints and diagrams come from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar


class BatchState(StrEnum):
    """Where a batch stands. `in_progress`, `canceling` and `ended` are Anthropic's processing_status, verbatim."""

    OPEN = "open"
    """The aggregator puts requests into it. It seals the batch when it is full or due."""
    SEALED = "sealed"
    """Its requests are fixed; it waits for the submitter, perhaps until a back-off is over."""
    SUBMITTING = "submitting"
    """The intent to post it is committed. The submitter moves it on, or, where the answer was lost, the rescuer."""
    IN_PROGRESS = "in_progress"
    """Anthropic has it. The poller moves it on."""
    CANCELING = "canceling"
    """Somebody asked Anthropic to cancel it; what had finished is kept. The poller moves it on."""
    ENDED = "ended"
    """Anthropic is done with it. The collector brings its results in, then completes it."""
    COMPLETED = "completed"
    """Every request of it was answered, put back to be tried again, or canceled before the batch was sent."""
    REJECTED = "rejected"
    """Anthropic will never take it as it is. Its requests went into smaller batches, or failed."""


class RequestState(StrEnum):
    """Where a request stands."""

    BATCHED = "batched"
    """It belongs to a batch, from `open` to `ended`. The collector moves it on."""
    RETRYABLE = "retryable"
    """It had no answer that lasts; the stager puts it into a new batch when its time comes. One that waits for its
    client's budget begins here: the budgeter releases or refuses it."""
    COMPLETED = "completed"
    """It succeeded; its answer is kept."""
    DISCARDED = "discarded"
    """It failed for good, or too often; its last error is kept. An operator can make it retryable again."""
    CANCELED = "canceled"
    """It was canceled, and will not run again."""


class DeliveryState(StrEnum):
    """Where an answer stands on its way to its callback."""

    AVAILABLE = "available"
    """It is due; the courier claims it."""
    DELIVERING = "delivering"
    """A courier holds it. One that dies leaves it here, until the rescuer takes it back."""
    RETRYABLE = "retryable"
    """The callback did not take it; the stager makes it available when its time comes."""
    DELIVERED = "delivered"
    """The callback took it."""
    DISCARDED = "discarded"
    """It was tried too often, or the callback wants no more. An operator can make it available again."""


State = TypeVar("State", bound=StrEnum)


@dataclass(frozen=True)
class Transition(Generic[State]):
    """A verb, the states it may start from and the one it ends in."""

    verb: str
    sources: tuple[State, ...]
    target: State


_B, _R, _D = BatchState, RequestState, DeliveryState

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
RETRY = Transition("retry", (_R.BATCHED,), _R.RETRYABLE)
DISCARD = Transition("discard", (_R.BATCHED,), _R.DISCARDED)
CANCEL = Transition("cancel", (_R.BATCHED, _R.RETRYABLE), _R.CANCELED)
STAGE = Transition("stage", (_R.RETRYABLE,), _R.BATCHED)
PUT_BACK = Transition("put back", (_R.DISCARDED,), _R.RETRYABLE)
REFUSE = Transition("refuse", (_R.RETRYABLE,), _R.DISCARDED)

CLAIM = Transition("claim", (_D.AVAILABLE,), _D.DELIVERING)
DELIVER = Transition("deliver", (_D.DELIVERING,), _D.DELIVERED)
SNOOZE = Transition("snooze", (_D.DELIVERING,), _D.RETRYABLE)
GIVE_UP = Transition("give up", (_D.DELIVERING,), _D.DISCARDED)
MAKE_AVAILABLE = Transition("stage", (_D.RETRYABLE,), _D.AVAILABLE)
RESCUE = Transition("rescue", (_D.DELIVERING,), _D.AVAILABLE)
REPLAY = Transition("replay", (_D.DISCARDED,), _D.AVAILABLE)

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
REQUEST_TRANSITIONS = (COMPLETE, RETRY, DISCARD, CANCEL, STAGE, PUT_BACK, REFUSE)
DELIVERY_TRANSITIONS = (CLAIM, DELIVER, SNOOZE, GIVE_UP, MAKE_AVAILABLE, RESCUE, REPLAY)

FIRST_STATES: Mapping[type[StrEnum], tuple[StrEnum, ...]] = {_R: (_R.BATCHED, _R.RETRYABLE)}
"""In which states what is new can be, where that isn't the first alone."""

FINAL_REQUEST_STATES = (_R.COMPLETED, _R.DISCARDED, _R.CANCELED)
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
