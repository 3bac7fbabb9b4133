"""Whose API key makes a request's batch: the account that takes its client and its model. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

DEFAULT = "default"
"""The name, in the settings and wherever it is shown, of the account that takes what no other does. In the tables, its
name is NULL."""

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SOURCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")


def _check_source(text: str) -> str:
    if not SOURCE.fullmatch(text):
        raise ValueError("must be env:VARIABLE or file:PATH, where the key is; never the key itself")
    return text


Source = Annotated[str, AfterValidator(_check_source)]
"""Where an API key is: `env:` and a variable, or `file:` and a path."""


class Account(BaseModel):
    """An account at Anthropic: its keys, where they are used, and what it is used for."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api_key: Source | None = None
    retired_keys: tuple[Source, ...] = ()
    base_url: str | None = Field(default=None, pattern=r"^https?://[!-~]+$")
    workspace: str | None = Field(default=None, pattern=r"^[!-~]{1,128}$")
    queue_limit: int | None = Field(default=None, ge=1)
    clients: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def takes(self, client: str, model: str) -> bool:
        """Return whether it is used for this client's requests to this model; patterns may have * and ?."""
        return bool(self.clients or self.models) and all(
            not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
            for name, patterns in ((client, self.clients), (model, self.models))
        )

    @model_validator(mode="after")
    def _one_key_each(self) -> Account:
        if self.api_key in self.retired_keys:
            raise ValueError("retired_keys: must not have the key that is in use")
        return self


Accounts = Mapping[str, Account]
"""The accounts by their names, in the order in which they are asked whether they take a request."""


def check_accounts(accounts: dict[str, Account]) -> dict[str, Account]:
    """Accept accounts of which each has a key, and the default one takes what is left; raises ValueError."""
    for name, account in accounts.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r}: a name has 1 to 64 letters, digits, dots, dashes and underscores")
        if name == DEFAULT and (account.clients or account.models):
            raise ValueError(
                f"{DEFAULT}: it takes what no other account does, so it has no clients or models"
            )
        if name != DEFAULT and account.api_key is None:
            raise ValueError(f"{name}.api_key: must be env:VARIABLE or file:PATH")
    return accounts


def account_of(accounts: Accounts, client: str, model: str) -> str | None:
    """Return the name of the first account that takes a client's requests to a model; None: the default one."""
    return next(
        (name for name, account in accounts.items() if name != DEFAULT and account.takes(client, model)), None
    )


def shown(account: str | None) -> str:
    """Return an account's name as people see it."""
    return account or DEFAULT
