"""Resolves a batch in doubt by an operator's word, where Anthropic's list can't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import sqlalchemy as sa

from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import DEFAULT, read_credentials
from carpool_worker.database import now, read, write
from carpool_worker.exceptions import ClaudeError, WorkerError
from carpool_worker.formatting import counted
from carpool_worker.models import Batch
from carpool_worker.pipeline.submission.look import suspects
from carpool_worker.pipeline.submission.rescuer import BatchSignature
from carpool_worker.pipeline.submission.submitter import accept
from carpool_worker.settings import Settings
from carpool_worker.states import BatchState
from carpool_worker.store.batches import in_doubt, transitions
from carpool_worker.store.batches import rows as batches
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import Milliseconds, after
from carpool_worker.views import lookup

log = get_logger(__name__)


class NotInDoubt(WorkerError):
    """The batch is not in doubt: nothing is to be resolved."""


class NotThisBatch(WorkerError):
    """The batch at Anthropic can't be this one."""


def find_doubt(engine: sa.Engine, settings: Settings, named: str) -> Batch:
    """Return the batch in doubt with this id, or the beginning of it.

    Raises:
        UnknownId, AmbiguousId.
        NotInDoubt: its post was answered, or may still be under way.
    """
    with read(engine) as connection:
        batch = batches.get(connection, lookup.batch_id(connection, named))
    if batch is None or batch.state != BatchState.SUBMITTING:
        raise NotInDoubt(f"batch {named} is {batch.state if batch else 'gone'}, not in doubt")
    longest = settings.doubt_policy.longest_post
    if batch.in_doubt_at is None and now() < after(Milliseconds(batch.submitting_at or 0), longest):
        raise NotInDoubt(f"batch {named} may be being posted at this moment: wait {longest:.0f} s")
    return batch


@contextmanager
def client_of(settings: Settings, batch: Batch) -> Iterator[Claude]:
    """Yield a client with the key of a batch's account, or with the default one."""
    own = [one for one in read_credentials(settings.accounts) if one.account == batch.account]
    with closing(Claude(credentials=own[0] if own else DEFAULT)) as claude:
        yield claude


def declare_not_made(
    engine: sa.Engine, claude: Claude, settings: Settings, batch: Batch, *, actor: str
) -> bool:
    """Have a batch posted again, as an operator says that its post made none; return False if it has moved on.

    It disowns what the list shows now, so that the look before the next post finds no other doubt in it.
    """
    try:
        others = suspects(engine, claude, batch, settings.doubt_policy)
    except ClaudeError as error:
        log.warning("the list of batches can't be read", error=str(error))
        others = []
    with write(engine) as connection:
        in_doubt.disown(connection, batch, *(remote.id for remote in others))
        why = f"{actor} says that its last post made no batch"
        sent_again = transitions.postpone(connection, batch.id, batch.submissions, error=why)
    log.warning("doubt resolved by hand: not made", batch=batch.id, by=actor, moved=sent_again)
    return sent_again


def declare_made(engine: sa.Engine, claude: Claude, batch: Batch, claude_id: str, *, actor: str) -> bool:
    """Adopt a batch at Anthropic for a batch in doubt, as an operator says; return False if that has moved on.

    Its results will show whether it really is this one.

    Raises:
        NotThisBatch: it has another number of requests, or is the batch of another.
        ClaudeError: it can't be retrieved.
    """
    remote = claude.retrieve(claude_id, BatchSignature.of(batch).headers)
    if not remote.may_have(batch.request_count):
        counts = f"{counted(remote.request_count or 0, 'request')}, not {batch.request_count:,}"
        raise NotThisBatch(f"{claude_id} has {counts}")
    with read(engine) as connection:
        if in_doubt.known(connection, [claude_id]):
            raise NotThisBatch(f"{claude_id} is the batch of another")
    adopted = accept(engine, batch.id, remote, in_doubt_at=batch.in_doubt_at or now()) is not None
    log.warning("doubt resolved by hand: made", batch=batch.id, claude_id=claude_id, by=actor, moved=adopted)
    return adopted
