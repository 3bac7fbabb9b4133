"""Compares what Anthropic lists with the tables, by an operator's wish; see pipeline/submission/audit.py."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing

import sqlalchemy as sa

from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import read_credentials
from carpool_worker.database import read
from carpool_worker.pipeline.submission import audit
from carpool_worker.settings import Settings
from carpool_worker.store.reports import batches as report
from carpool_worker.units import Milliseconds

Audit = audit.Audit
ForeignBatch = audit.ForeignBatch
AuditedList = audit.AuditedList
Whose = audit.Whose


def count_posted(engine: sa.Engine, since: Milliseconds) -> int:
    """Return how many batches Anthropic has accepted since then, by the tables."""
    with read(engine) as connection:
        return sum(report.posted_since(connection, since).values())


def reconcile(
    engine: sa.Engine, settings: Settings, since: Milliseconds, progress: Callable[[int], None]
) -> Audit:
    """Audit the lists that all keys of the settings see, back to `since`; `progress` gets the batches compared."""
    with ExitStack() as stack:
        claudes = [
            stack.enter_context(closing(Claude(credentials=one)))
            for one in read_credentials(settings.accounts)
        ]
        return audit.audit(engine, claudes, since, progress)
