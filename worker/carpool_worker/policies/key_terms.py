"""What an operator decides about a key of the gateway, checked: each field and its rule. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)

from carpool.contract import CLIENT_NAME, MAX_PRIORITY, MAX_WAIT, REQUEST_ID
from carpool.enqueue_options import DeadlinePolicy
from carpool_worker.exceptions import WorkerError
from carpool_worker.policies.budgets import Budget, Over
from carpool_worker.policies.keys import Scope
from carpool_worker.units import SECOND, Milliseconds

NAME_RULE = "must be 1 to 64 letters, digits, dots, dashes or underscores"
MODEL_PATTERN = re.compile(r"[A-Za-z0-9._:@/*-]{1,128}")
HOST_PATTERN = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.:-]*[a-z0-9])?")
HOST_LENGTH = 253
MOST_PATTERNS = 100
LONGEST_EXPIRY = timedelta(days=36_500)
CLIENTS_SCOPES = frozenset({Scope.MESSAGES, Scope.BATCHES, Scope.USAGE})


class KeyInvalid(WorkerError):
    """What was decided about a key breaks a rule; the message names each field and its rule."""


def _name(text: str) -> str:
    if not CLIENT_NAME.fullmatch(text):
        raise ValueError(NAME_RULE)
    return text


def _key_name(text: str) -> str:
    if REQUEST_ID.fullmatch(_name(text)):
        raise ValueError("must not be 32 hexadecimal digits, as an id is")
    return text


def _model(text: str) -> str:
    if not MODEL_PATTERN.fullmatch(text):
        raise ValueError("each must be a model's name, in which * stands for any characters: claude-haiku-*")
    return text


def _host(text: str) -> str:
    host = text.lower().rstrip(".")
    if len(host) > HOST_LENGTH or not HOST_PATTERN.fullmatch(host):
        raise ValueError("each must be a host, or *. and a domain: hooks.example.com, *.example.com")
    return host


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic takes it for the field's error
    return value


def _time(value: object) -> object:
    if not isinstance(value, str | datetime | None):
        raise ValueError("must be a time, as 2027-01-31T00:00:00Z")  # noqa: TRY004 - as above
    return value


Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Wait = Annotated[int, Field(strict=True, ge=1, le=MAX_WAIT)]
Dollars = Annotated[
    Decimal,
    BeforeValidator(_number),
    Field(gt=0, le=1_000_000, decimal_places=12, allow_inf_nan=False),
]
Priority = Annotated[int, Field(strict=True, ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
Moment = Annotated[AwareDatetime, BeforeValidator(_time)]
Lifetime = Annotated[timedelta, BeforeValidator(_number), Field(gt=timedelta(0), le=LONGEST_EXPIRY)]
Models = Annotated[tuple[Annotated[str, AfterValidator(_model)], ...], Field(max_length=MOST_PATTERNS)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(max_length=MOST_PATTERNS)]


class KeyTerms(BaseModel):
    """All that an operator decides about a key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client: Annotated[str, AfterValidator(_name)]
    name: Annotated[str, AfterValidator(_key_name)]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] = CLIENTS_SCOPES
    models: Models = ()
    requests_a_minute: Count | None = None
    most_queued: Count | None = None
    most_held: Count | None = None
    day: Dollars | None = None  # as the next: its budget
    month: Dollars | None = None
    over: Over = Over.REFUSE
    lowest_priority: Priority = -MAX_PRIORITY
    highest_priority: Priority = MAX_PRIORITY
    callback_hosts: Hosts = ()
    workspaces: StrictBool = False
    deadline: Wait | None = None  # seconds
    deadline_policy: DeadlinePolicy | None = None
    expires_at: Moment | None = None
    expires_after: Lifetime | None = None

    @model_validator(mode="after")
    def _agree(self) -> KeyTerms:
        if self.lowest_priority > self.highest_priority:
            raise ValueError("lowest_priority must not be above highest_priority")
        if self.expires_at and self.expires_after:
            raise ValueError(
                "expires_at and expires_after exclude each other: a fixed time, or from the first use"
            )
        if self.callback_hosts and Scope.CALLBACKS not in self.scopes:
            raise ValueError("callback_hosts needs the scope callbacks")
        return self

    @property
    def budget(self) -> Budget | None:
        """Its budget, if it has one."""
        if self.day is None and self.month is None:
            return None
        return Budget(day=self.day, month=self.month, over=self.over)

    @property
    def expiry(self) -> Milliseconds | None:
        """When it expires, if that is fixed."""
        return None if self.expires_at is None else Milliseconds(round(self.expires_at.timestamp() * SECOND))

    @property
    def lifetime(self) -> Milliseconds | None:
        """How long after its first use it expires, if it does so then."""
        after = self.expires_after
        return None if after is None else Milliseconds(round(after.total_seconds() * SECOND))


def check_terms(given: Mapping[str, Any]) -> KeyTerms:
    """Return what was decided about a key, checked.

    Raises:
        KeyInvalid: a field is unknown, or breaks its rule.
    """
    try:
        return KeyTerms.model_validate(dict(given))
    except ValidationError as error:
        raise KeyInvalid("; ".join(map(_sentence, error.errors()))) from None


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such field"
    return f"{where}: {said}" if where else said
