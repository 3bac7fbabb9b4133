"""With which key, and where, an account's batches are made.

Kept apart from client.py, as the SDK takes seconds to import.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from carpool_worker.policies.accounts import DEFAULT as DEFAULT_ACCOUNT
from carpool_worker.policies.accounts import Account, Accounts
from carpool_worker.policies.keys import is_well_formed


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API key of an account; without one, the SDK's own: ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL."""

    account: str | None = None  # None: the default one
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    workspace: str | None = None  # for calls whose headers name none
    is_retired: bool = False  # it posts nothing, and is used for the batches that it made
    unusable: str | None = None  # why no call can be made: there is no key


VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""Where the SDK looks for credentials; the first that is set wins."""

OF_THE_GATEWAY = (
    "the key in the environment is one of a Carpool gateway, not Anthropic's: unset it, or set Anthropic's"
)

ODD_CHARACTERS = {"\n": "a newline", "\r": "a carriage return", "\t": "a tab", " ": "a space"}
"""What no key has, though it easily gets into a variable."""

DEFAULT = Credentials()
"""Those of the environment, as the SDK reads them."""


def read_credentials(accounts: Accounts) -> list[Credentials]:
    """Return the keys of all accounts as they are now, those of the default account first, and retired keys last.

    A retired key that is no longer where it was is left out; without its key in use, an account's calls fail.
    """
    named = {DEFAULT_ACCOUNT: Account()} | dict(accounts)
    found = [one for name, account in named.items() for one in _of(name, account)]
    return sorted(found, key=lambda one: one.is_retired)


def unreadable(accounts: Accounts) -> list[tuple[str, str]]:
    """Return the account's name and the source of each key, retired ones included, that is not where it should be."""
    sources = [
        (name, source) for name, one in accounts.items() for source in (one.api_key, *one.retired_keys)
    ]
    return [(name, source) for name, source in sources if source is not None and not _read(source)]


def variable() -> str | None:
    """Return the variable of the environment that the SDK takes its credentials from; None if there is neither.

    A key of Carpool's own gateway, as `carpool up` writes it for programs, is none: batches would go in a circle.
    """
    found = next(filter(os.environ.get, VARIABLES), None)
    return None if found is None or is_well_formed(os.environ[found]) else found


def unsendable(credentials: Credentials) -> str | None:
    """Return why a key can't be sent in a header, by the variable it is in; None if it can. The key is not quoted."""
    if credentials.api_key is not None:
        what, key = f"the API key of account {credentials.account or DEFAULT_ACCOUNT}", credentials.api_key
    elif (found := variable()) is not None:
        what, key = found, os.environ[found]
    else:
        return OF_THE_GATEWAY if any(map(os.environ.get, VARIABLES)) else None
    odd = next((one for one in key if not "!" <= one <= "~"), None)
    if odd is None:
        return None
    named = ODD_CHARACTERS.get(odd, "a control character" if odd.isascii() else "a character beyond ASCII")
    return f"{what} has {named} in it: set it to the key alone"


def missing(account: str | None) -> Credentials:
    """Return what stands for an account that is not in the settings: each of its calls fails."""
    return Credentials(account, api_key="none", unusable=f"account {account}: it is not in the settings")


def _of(name: str, account: Account) -> Iterator[Credentials]:
    stored = None if name == DEFAULT_ACCOUNT else name
    here = Credentials(stored, base_url=account.base_url, workspace=account.workspace)
    if account.api_key is None:
        yield here
    elif key := _read(account.api_key):
        yield replace(here, api_key=key)
    else:
        place = account.api_key.partition(":")[2]
        yield replace(here, api_key="none", unusable=f"account {name}: there is no API key in {place}")
    for source in account.retired_keys:
        if key := _read(source):
            yield replace(here, api_key=key, is_retired=True)


def _read(source: str) -> str:
    kind, _, place = source.partition(":")
    if kind == "env":
        return os.environ.get(place, "").strip()
    try:
        return Path(place).read_text().strip()
    except (OSError, ValueError):
        return ""
