"""Says in plain words what a batch waits for. Pure: from its row and the scene around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from carpool_worker.formatting import clock
from carpool_worker.models import Batch, LanePause
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.windows import LEAD, Opening
from carpool_worker.states import BatchState


@dataclass(frozen=True, slots=True)
class Scene:
    """What counts for all batches at a moment (`at`, milliseconds since the epoch)."""

    at: int
    limits: Limits
    doubt_policy: DoubtPolicy
    queue_limit: int
    queued: int  # requests at Anthropic
    pauses: Mapping[str, LanePause]
    admitted: Collection[str]  # ids of the batches that may be posted now
    opening: Opening | None = None  # of the windows, where they are closed
    warming: Collection[str] = ()  # ids of the batches that wait for their warm-up


def waits_for(batch: Batch, scene: Scene) -> str:
    """Return what a batch waits for, as 'room: 180,000 of 200,000 requests are queued at Anthropic'; '' at its end."""
    tell = TELLERS.get(batch.state)
    return tell(batch, scene) if tell else ""


def _open(batch: Batch, scene: Scene) -> str:
    room = scene.limits.count - batch.request_count
    sealed_at = scene.limits.due_at(batch.opened_at)
    until = clock(min(sealed_at, _sets_off(batch) or sealed_at), scene.at)
    return f"more requests: until {until}, or {room:,} more"


def _sealed(batch: Batch, scene: Scene) -> str:
    if pause := scene.pauses.get(batch.lane):
        if pause.by_operator:
            return f"its lane, paused by an operator: {pause.reason} (until it is resumed)"
        return f"its lane, paused: {pause.reason} (asked again at {clock(pause.probe_at, scene.at)})"
    if batch.due_at > scene.at:
        return f"a back-off, until {clock(batch.due_at, scene.at)}: {batch.last_error or 'no reason known'}"
    if batch.id in scene.warming:
        return f"its warm-up batch {batch.warm_up_id}, until {clock(batch.warm_until or 0, scene.at)} at most"
    if held := _held(batch, scene):
        return held
    if batch.id not in scene.admitted:
        return f"room: {scene.queued:,} of {scene.queue_limit:,} requests are queued at Anthropic"
    return "a worker to post it"


def _held(batch: Batch, scene: Scene) -> str:
    leaves_at = _sets_off(batch)
    if scene.opening is None or (leaves_at is not None and leaves_at <= scene.at):
        return ""
    opens_at, window = scene.opening
    if leaves_at is not None and leaves_at < opens_at:
        return f"the end of its max_wait: it sets off at {clock(leaves_at, scene.at)}, outside submit_windows"
    return f"the window at {clock(opens_at, scene.at)} ({window.text})"


def _sets_off(batch: Batch) -> int | None:
    return None if batch.submit_by is None else batch.submit_by - LEAD


def _submitting(batch: Batch, scene: Scene) -> str:
    settled = scene.doubt_policy.gives_up_at(batch)
    if settled <= scene.at:
        return "Anthropic's list: a batch there may be this one, and its results will tell, or the list can't be had"
    until = f"until {clock(settled, scene.at)}, then it is sent again"
    if batch.in_doubt_at is None:
        return f"the answer to its post; should that be lost, Anthropic's list {until}"
    return f"Anthropic's list to show whether it was made, {until}"


def _in_progress(batch: Batch, scene: Scene) -> str:
    until = f", until {clock(batch.expires_at, scene.at)} at most" if batch.expires_at else ""
    adopted = " (taken for this batch by its size; its results will tell)" if batch.in_doubt_at else ""
    return f"Anthropic{until}{adopted}"


def _canceling(batch: Batch, scene: Scene) -> str:
    return "Anthropic to end it: it was canceled, what has run is kept"


def _ended(batch: Batch, scene: Scene) -> str:
    if batch.due_at > scene.at:
        return (
            f"its results, read again at {clock(batch.due_at, scene.at)}: {batch.last_error or 'cut short'}"
        )
    return "a worker to collect its results"


TELLERS: Mapping[BatchState, Callable[[Batch, Scene], str]] = {
    BatchState.OPEN: _open,
    BatchState.SEALED: _sealed,
    BatchState.SUBMITTING: _submitting,
    BatchState.IN_PROGRESS: _in_progress,
    BatchState.CANCELING: _canceling,
    BatchState.ENDED: _ended,
}
