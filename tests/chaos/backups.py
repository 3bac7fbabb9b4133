"""A database that is set back to a backup while requests flow, and the runbook for it (docs/operations.md)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tests.chaos import reading
from tests.chaos.operating import carpool
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack
from tests.fixtures.waiting import until

from carpool.contract import INBOX

BEFORE_SECONDS, AFTER_SECONDS = (4.0, 6.0), (3.0, 8.0)
"""How long requests flow until the backup, and from then until the loss."""

WAIT_SECONDS = 60.0


@scenario("a restored backup", seconds=150, databases=("sqlite",), workers=2)
def restored(stack: Stack) -> None:
    """Lose everything that was written since a backup, and follow the runbook."""
    time.sleep(stack.luck.uniform(*BEFORE_SECONDS))
    _back_up(stack)
    time.sleep(stack.luck.uniform(*AFTER_SECONDS))
    stack.traffic.stop()
    for program in (*stack.workers, stack.beat):
        program.stop()
    posted = {entry["custom_id"] for entry in stack.remote.ledger_entries()}
    _restore(stack)
    stack.inject("database: set back to a backup")

    lanes = [row["lane"] for row in carpool(stack, "lanes", "--json")]
    carpool(stack, "pause", *lanes)
    for program in (*stack.workers, stack.beat):
        program.start()
    with stack.connection() as server:
        until(lambda: server.xlen(INBOX) == 0, WAIT_SECONDS)
    kept = {row.id for row in reading.rows(stack.engine)}
    _forget(stack, (stack.traffic.accepted | stack.traffic.unknown) - kept)
    stack.notes.append(f"lost with the tables: {len(stack.forgotten):,} requests")
    until(
        lambda: _is_back(stack) and _is_all_known(stack) and _is_back(stack),
        WAIT_SECONDS,
        progress=lambda: reading.still_open(stack.engine),
    )
    stack.notes.append(f"posted before and known to the backup: {len(posted & kept):,} requests")
    carpool(stack, "resume", *lanes)
    stack.traffic.flow()
    time.sleep(stack.luck.uniform(*AFTER_SECONDS))


def _back_up(stack: Stack) -> None:
    with (
        closing(sqlite3.connect(_file(stack))) as source,
        closing(sqlite3.connect(stack.folder / "backup")) as backup,
    ):
        source.backup(backup)


def _restore(stack: Stack) -> None:
    stack.engine.dispose()
    place = _file(stack)
    for end in ("-wal", "-shm"):
        place.with_name(place.name + end).unlink(missing_ok=True)
    (stack.folder / "backup").replace(place)


def _file(stack: Stack) -> Path:
    return Path(stack.database.url.removeprefix("sqlite:///"))


def _forget(stack: Stack, ids: Iterable[str]) -> None:
    stack.forgotten.update(ids)
    stack.traffic.forget(ids)


def _is_back(stack: Stack) -> bool:
    """Return whether nothing is at Anthropic and no request waits for its retry: what is left waits in paused lanes."""
    still = reading.still_open(stack.engine)
    return all(
        kind in ("requests batched", "batches sealed") or kind.startswith("deliveries") for kind in still
    )


def _is_all_known(stack: Stack) -> bool:
    """Return whether `carpool reconcile` has nothing to adopt, and knows whose every batch is."""
    [said] = carpool(stack, "reconcile", "--since", "1h", "--json")
    return not said["counts"]["unread"] + said["counts"]["adopted"]
