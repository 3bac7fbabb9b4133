"""Examines whether the API keys at hand see the batches that Carpool has made: one of another workspace sees none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile

import sqlalchemy as sa

from carpool_worker.claude.client import REFUSED_STATUSES, Claude
from carpool_worker.claude.credentials import Credentials, unreadable, variable
from carpool_worker.database import now, read
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.exceptions import ClaudeError
from carpool_worker.formatting import clock, counted
from carpool_worker.policies.accounts import Accounts, shown
from carpool_worker.policies.retries import RESULTS_KEPT
from carpool_worker.store.batches import unseen
from carpool_worker.store.reports import doctor
from carpool_worker.units import SECOND, Milliseconds
from carpool_worker.views.alerts import AlertKind

CHECK = "keys"
MEND = "set the key of the workspace that made it, or name that among the account's retired_keys"

UNLISTED = "something in between stubs, filters or keeps the list: docs/relays.md says what a relay needs"

BLIND_STATUSES = REFUSED_STATUSES | {404}
"""The API's answers to a key that may not see a batch."""


def examine(engine: sa.Engine, all_keys: Sequence[Credentials], accounts: Accounts) -> Iterator[Finding]:
    """Ask with each key for the newest batch of its account; name the batches that wait for another key."""
    for name, source in unreadable(accounts):
        yield warning(CHECK, f"account {name}: there is no key in {source}", "put it there, or remove it")
    for account in dict.fromkeys(one.account for one in all_keys):
        keys = [one for one in all_keys if one.account == account and _is_there(one)]
        yield from _newest(engine, account, keys)
    with read(engine) as connection:
        hidden = unseen.by_account(connection)
    for account, waiting in hidden.items():
        since = clock(waiting.since, now())
        what = f"account {shown(account)}: {counted(waiting.batches, 'batch waits', 'batches wait')} since {since} "
        yield wrong(CHECK, f"{what}for a key that may see them", MEND, AlertKind.BATCHES_UNSEEN)


def _is_there(credentials: Credentials) -> bool:
    return not credentials.unusable and (credentials.api_key is not None or variable() is not None)


def _newest(engine: sa.Engine, account: str | None, keys: Sequence[Credentials]) -> Iterator[Finding]:
    with read(engine) as connection:
        newest = doctor.newest_batch(connection, account, now() - int(RESULTS_KEPT * SECOND))
    if newest is None or not keys:
        return
    claude_id, headers = newest
    sees = [_sees(one, claude_id, json.loads(headers)) for one in keys]
    if True in sees:
        yield ok(CHECK, f"account {shown(account)}: a key of it sees its newest batch, {claude_id}")
        if _lists(keys[sees.index(True)], claude_id, json.loads(headers)) is False:
            what = f"account {shown(account)}: the list of batches does not show {claude_id}, which is there"
            yield wrong(CHECK, f"{what}: a lost post can't be found", UNLISTED)
    elif None not in sees:
        what = (
            f"account {shown(account)}: no key of it sees its newest batch, {claude_id}: another workspace?"
        )
        yield wrong(CHECK, what, MEND)


def _sees(credentials: Credentials, claude_id: str, headers: dict[str, str]) -> bool | None:
    """Return whether a key sees a batch; None if the API does not say."""
    claude = Claude(credentials=credentials)
    try:
        claude.retrieve(claude_id, headers)
    except ClaudeError as error:
        return False if error.status in BLIND_STATUSES else None
    else:
        return True
    finally:
        claude.close()


def _lists(credentials: Credentials, claude_id: str, headers: dict[str, str]) -> bool | None:
    """Return whether the list shows a batch that is there; None if the API does not say."""
    claude = Claude(credentials=credentials)
    try:
        made_at = claude.retrieve(claude_id, headers).created_at or Milliseconds(0)
        recent = takewhile(lambda one: one.may_be_from(made_at), claude.list_newest(headers))
        return any(remote.id == claude_id for remote in recent)
    except ClaudeError:
        return None
    finally:
        claude.close()
