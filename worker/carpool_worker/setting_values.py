"""What the settings' values may be: their kinds, and the checks of each."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from carpool.contract import CLIENT_NAME, MAX_WAIT
from carpool.redis_url import SCHEMES, check_url
from carpool_worker.money.overrides import PriceOverride, check_patterns
from carpool_worker.policies.accounts import Account, check_accounts
from carpool_worker.policies.budgets import Budget
from carpool_worker.policies.keys import OPERATORS, Scope
from carpool_worker.policies.quotas import Quota, check_names
from carpool_worker.policies.real_time import check_owners
from carpool_worker.policies.windows import parse

API_MAX_REQUESTS = 100_000
API_MAX_BYTES = 256_000_000
"""Anthropic's limits for one batch; no setting can exceed them."""

START_QUEUE_LIMIT = 200_000
"""Requests that an account of the tier Start may have queued in all its batches (api docs, August 2026)."""

LONGEST_SUBMIT_TIMEOUT = 1_500.0
"""Seconds: the task that posts a batch must be over long before Redis delivers its message again, after an hour."""

WEBHOOK_SCHEDULE = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds between the tries of a delivery, where nobody says otherwise."""

LISTED_DAYS = 30.0
"""Anthropic lists a batch for 29 days: a row that goes before would make our own batch look like a stranger's."""

Pooler = Literal["none", "transaction"]
"""What stands between Carpool and PostgreSQL: nothing, or a pooler that lends connections by the transaction."""

PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.A)
PUBLIC_URL = re.compile(r"(https?://([\w.-]+|\[[\da-f:]+])(:\d{1,5})?/?)?", re.A | re.I)

PROXY = re.compile(r"((https?|socks5h)://([!-.0-?A-~]+@)?([\w.-]+|\[[\da-f:]+])(:\d{1,5})?/?)?", re.A | re.I)


def split_commas(value: Any) -> Any:
    """Accept 'a, b' from the environment where a list is meant."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def read_json(value: Any) -> Any:
    """Accept JSON from the environment where a table is meant; raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"must be JSON: {error}") from None


ClientQuotas = Annotated[dict[str, Quota], NoDecode, BeforeValidator(read_json), AfterValidator(check_names)]
"""Quotas by client, in the environment as JSON."""


def check_broker_url(url: str) -> str:
    """Accept an empty text, or the URL of a Redis or a RabbitMQ; raises ValueError."""
    if not url or url.startswith(("amqp://", "amqps://")):
        return url
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise ValueError("must begin with redis://, rediss://, unix://, sentinel://, amqp:// or amqps://")
    return check_url(url)


LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1_000
"""What a client's weight may be."""


def check_weights(weights: dict[str, float]) -> dict[str, float]:
    """Accept a number for each client; raises ValueError."""
    for client, weight in weights.items():
        if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            raise ValueError(f"{client}: must be a number from {LEAST_WEIGHT} to {MOST_WEIGHT:,}")
    return weights


ClientWeights = Annotated[
    dict[str, float], NoDecode, BeforeValidator(read_json), AfterValidator(check_weights)
]


def check_secret(secret: SecretStr) -> SecretStr:
    """Accept whsec_ and the base64 of 24 to 64 bytes, as Standard Webhooks 1.0.0 has it; raises ValueError."""
    prefix, encoded = secret.get_secret_value()[:6], secret.get_secret_value()[6:]
    try:
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    if prefix != "whsec_" or not 24 <= len(key) <= 64:
        raise ValueError("each must be whsec_ and the base64 of 24 to 64 random bytes")
    return secret


def check_proxy(secret: SecretStr) -> SecretStr:
    """Accept an empty text, or the URL of a proxy; raises ValueError."""
    if not PROXY.fullmatch(secret.get_secret_value()):
        raise ValueError("must be http://, https:// or socks5h://[user:password@]host[:port]")
    return secret


SHORTEST_PASSWORD = 12


def check_password(secret: SecretStr) -> SecretStr:
    """Accept an empty text, or one that can't be guessed in a hurry; raises ValueError."""
    if 0 < len(secret.get_secret_value()) < SHORTEST_PASSWORD:
        raise ValueError(f"must have {SHORTEST_PASSWORD} characters or more")
    return secret


def check_roles(roles: list[Scope]) -> list[Scope]:
    """Accept what is for operators; raises ValueError."""
    if bad := [role for role in roles if role not in OPERATORS]:
        raise ValueError(f"each must be one of {', '.join(sorted(OPERATORS))}, not {bad[0]!r}")
    return roles


def check_prefixes(prefixes: list[str]) -> list[str]:
    """Accept paths, such as /relay/claude; raises ValueError."""
    if bad := [prefix for prefix in prefixes if not PREFIX.fullmatch(prefix)]:
        raise ValueError(f"each must be a path such as /claude, without a slash at its end, not {bad[0]!r}")
    return prefixes


def check_public_url(url: str) -> str:
    """Accept an empty text, or the URL of a host, without a path; raises ValueError."""
    if not PUBLIC_URL.fullmatch(url):
        raise ValueError("must be http:// or https://host[:port], without a path (see gateway_prefixes)")
    return url


def check_webhook(url: str) -> str:
    """Accept an empty text, or a URL that webhooks can go to; raises ValueError."""
    if url and not re.fullmatch(r"https?://[!-~]+", url):
        raise ValueError("must be an http or https URL")
    return url


def check_submit_timeout(seconds: float) -> float:
    """Accept a timeout with which a post ends long before its message is delivered again; raises ValueError."""
    if not seconds <= LONGEST_SUBMIT_TIMEOUT:
        most = f"{LONGEST_SUBMIT_TIMEOUT:,.0f} s at most"
        raise ValueError(f"{most}: a post must end long before its message is delivered again (an hour)")
    return seconds


def check_keys_retention(days: float, info: ValidationInfo) -> float:
    """Accept 0 (forever), or at least as long as contents are kept; raises ValueError."""
    longest = max(info.data.get(f"{contents}_retention_days", 0.0) for contents in ("params", "answers"))
    if 0 < days < longest:
        raise ValueError(
            f"must be 0 (forever), or {longest:g} or more: a key goes with its contents or later"
        )
    return days


def check_requests_retention(days: float, info: ValidationInfo) -> float:
    """Accept 0 (forever), or at least as long as contents are kept and batches are looked for; raises ValueError."""
    names = ("params_retention_days", "answers_retention_days", "audit_days")
    longest = max(LISTED_DAYS, *(info.data.get(name, 0.0) for name in names))
    if 0 < days < longest:
        raise ValueError(
            f"must be 0 (forever), or {longest:g} or more: as long as contents are kept, batches are audited and "
            f"Anthropic lists them ({LISTED_DAYS:g})"
        )
    return days


def check_clients(by_client: dict[str, float]) -> dict[str, float]:
    """Accept what is given by the names of clients, or "default"; raises ValueError."""
    if bad := [name for name in by_client if not CLIENT_NAME.fullmatch(name)]:
        raise ValueError(f"{bad[0]!r}: must be the name of a client, or default for all without their own")
    return by_client


def check_window(text: str) -> str:
    """Accept a window as policies/windows.py reads it; raises ValueError."""
    parse(text)
    return text


Names = Annotated[list[str], NoDecode, BeforeValidator(split_commas)]
Secrets = Annotated[
    list[Annotated[SecretStr, AfterValidator(check_secret)]], NoDecode, BeforeValidator(split_commas)
]
Networks = Annotated[list[IPv4Network | IPv6Network], NoDecode, BeforeValidator(split_commas)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AccountTable = Annotated[
    dict[str, Account], NoDecode, BeforeValidator(read_json), AfterValidator(check_accounts)
]
BudgetTable = Annotated[dict[str, Budget], NoDecode, BeforeValidator(read_json)]
PriceTable = Annotated[
    dict[str, PriceOverride], NoDecode, BeforeValidator(read_json), AfterValidator(check_patterns)
]
RealTimeTable = Annotated[
    dict[str, Budget], NoDecode, BeforeValidator(read_json), AfterValidator(check_owners)
]
Roles = Annotated[list[Scope], NoDecode, BeforeValidator(split_commas), AfterValidator(check_roles)]
Schedule = Annotated[list[Seconds], NoDecode, BeforeValidator(split_commas)]
Deadlines = Annotated[
    dict[str, Annotated[float, Field(gt=0, le=MAX_WAIT)]],
    NoDecode,
    BeforeValidator(read_json),
    AfterValidator(check_clients),
]
WindowTexts = Annotated[
    list[Annotated[str, AfterValidator(check_window)]], NoDecode, BeforeValidator(split_commas)
]
SubmitTimeout = Annotated[float, AfterValidator(check_submit_timeout), Field(gt=0)]
KeysRetention = Annotated[NotNegative, AfterValidator(check_keys_retention)]
RequestsRetention = Annotated[NotNegative, AfterValidator(check_requests_retention)]
