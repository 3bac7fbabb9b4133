"""The settings. CARPOOL_* in the environment overrides the TOML file, and that the defaults here.

`config/carpool.toml` explains each setting; policies are made from them here, as properties.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from base64 import b64decode
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.budgets import Budget
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.policies.limits import SHORTEST_FLUSH, Limits
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.policies.windows import parse, parse_all

API_MAX_REQUESTS = 100_000
API_MAX_BYTES = 256_000_000
"""Anthropic's limits for one batch; no setting can exceed them."""

START_QUEUE_LIMIT = 200_000
"""Requests that an account of the tier Start may have queued in all its batches (api docs, August 2026)."""

LONGEST_SUBMIT_TIMEOUT = 1_500.0
"""Seconds: the task that posts a batch must be over long before Redis delivers its message again, after an hour."""

PROXY = re.compile(r"((https?|socks5h)://([!-.0-?A-~]+@)?([\w.-]+|\[[\da-f:]+])(:\d{1,5})?/?)?", re.A | re.I)
DEFAULT_CONFIG = Path("config/carpool.toml")


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


def check_redis_url(url: str) -> str:
    """Refuse what no Redis client can open."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return url


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
Schedule = Annotated[list[Seconds], NoDecode, BeforeValidator(split_commas)]
WindowTexts = Annotated[
    list[Annotated[str, AfterValidator(check_window)]], NoDecode, BeforeValidator(split_commas)
]


class Settings(BaseSettings):
    """Every setting. Intervals are seconds unless their name says days, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix="CARPOOL_", extra="forbid", hide_input_in_errors=True)

    redis_url: Annotated[str, AfterValidator(check_redis_url)] = "redis://127.0.0.1:6379/0"
    database_url: str = "sqlite:///.carpool/carpool.db"

    flush_count: int = Field(default=API_MAX_REQUESTS, ge=1, le=API_MAX_REQUESTS)
    flush_bytes: int = Field(default=250_000_000, ge=1_000, le=API_MAX_BYTES)
    flush_interval: NotNegative = 60

    poll_interval: Seconds = 30
    settle_interval: Seconds = 120
    submit_timeout: Annotated[float, AfterValidator(check_submit_timeout), Field(gt=0)] = 600
    claim_interval: Seconds = 30
    queue_limit: int = Field(default=START_QUEUE_LIMIT, ge=1)
    submit_windows: WindowTexts = Field(default_factory=list)
    cache_shared_prompts: bool = False

    max_attempts: int = Field(default=3, ge=1, le=100)
    retry_interval: Seconds = 60

    budgets: Annotated[dict[str, Budget], NoDecode, BeforeValidator(read_json)] = Field(default_factory=dict)

    webhook_secret: Secrets = Field(default_factory=list)
    webhook_allowed_networks: Networks = Field(default_factory=list)
    webhook_proxy: Annotated[SecretStr, AfterValidator(check_proxy)] = SecretStr("")
    webhook_timeout: Seconds = 20
    webhook_concurrency: int = Field(default=100, ge=1, le=2_000)
    webhook_host_concurrency: int = Field(default=20, ge=1, le=2_000)
    webhook_schedule: Schedule = Field(
        default_factory=lambda: [
            5.0,
            300.0,
            1_800.0,
            7_200.0,
            18_000.0,
            36_000.0,
            50_400.0,
            72_000.0,
            86_400.0,
        ]
    )

    webhook_stop_days: Days = 5

    task_allowed: Names = Field(default_factory=lambda: ["*"])
    task_queues_allowed: Names = Field(default_factory=lambda: ["*"])

    log_format: Literal["auto", "json", "text"] = "auto"

    params_retention_days: Days = 7
    answers_retention_days: Days = 29
    keys_retention_days: Annotated[NotNegative, AfterValidator(check_keys_retention)] = 0  # 0: forever

    @property
    def limits(self) -> Limits:
        """When a batch is full or due; none exceeds `queue_limit`, as it would never be admitted."""
        count, seconds = min(self.flush_count, self.queue_limit), max(self.flush_interval, SHORTEST_FLUSH)
        may_overlap = not self.cache_shared_prompts  # each batch writes them to the cache anew
        return Limits(count, self.flush_bytes, seconds, parse_all(self.submit_windows), may_overlap)

    @property
    def submit_policy(self) -> SubmitPolicy:
        """How sealed batches are posted."""
        return SubmitPolicy(
            submit_timeout=self.submit_timeout,
            queue_limit=self.queue_limit,
            windows=parse_all(self.submit_windows),
            cache_shared_prompts=self.cache_shared_prompts,
        )

    @property
    def collect_policy(self) -> CollectPolicy:
        """How often a request is attempted, and how long it waits in between."""
        return CollectPolicy(max_attempts=self.max_attempts, retry_interval=self.retry_interval)

    @property
    def doubt_policy(self) -> DoubtPolicy:
        """How long Carpool searches for a batch whose create was never answered."""
        return DoubtPolicy(self.submit_timeout, self.settle_interval)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment override the file, and the file the defaults."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, config_path())


def config_path() -> Path | None:
    """Return the TOML file to read: CARPOOL_CONFIG, else config/carpool.toml in the working directory, else None.

    Raises:
        SettingsInvalid: CARPOOL_CONFIG names something that is not a file.
    """
    if named := os.environ.get("CARPOOL_CONFIG"):
        if not Path(named).is_file():
            raise SettingsInvalid(f"CARPOOL_CONFIG names {named}, which is not a file")
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def read_settings(**overrides: Any) -> Settings:
    """Read the settings afresh; `overrides` win over everything.

    Raises:
        SettingsInvalid: a setting is unknown or invalid (the message names each), or the file is not TOML.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsInvalid("; ".join(map(_sentence, error.errors()))) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(f"{config_path()}: {error}") from error


@cache
def settings() -> Settings:
    """Return this process's settings, read once."""
    return read_settings()


def _sentence(error: Any) -> str:
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden" and name.isidentifier():
        return f"{name} (in {config_path()}): there is no such setting"
    return f"{name} (environment: CARPOOL_{name.upper().split('.')[0]}): {error['msg']}"
