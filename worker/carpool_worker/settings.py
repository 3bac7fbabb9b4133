"""The settings. CARPOOL_* in the environment overrides the TOML file, and that the defaults here.

`config/carpool.toml` explains each setting; policies are made from them here, as properties.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal

import redis
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from carpool.key_prefix import check_key_prefix
from carpool.redis_url import check_url, connect
from carpool.shards import MAX_SHARDS
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.money.overrides import put_in_force
from carpool_worker.policies.accounts import DEFAULT
from carpool_worker.policies.admission import SubmitPolicy
from carpool_worker.policies.deadlines import POSTING_SECONDS, SHARE, DeadlineRule
from carpool_worker.policies.in_doubt import FRESH_INTERVAL, SETTLE_INTERVAL, DoubtPolicy
from carpool_worker.policies.keys import Scope
from carpool_worker.policies.limits import SHORTEST_FLUSH, Limits
from carpool_worker.policies.real_time import RealTimePolicy
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.policies.windows import parse_all
from carpool_worker.setting_files import config_path
from carpool_worker.setting_values import (
    API_MAX_BYTES,
    API_MAX_REQUESTS,
    START_QUEUE_LIMIT,
    WEBHOOK_SCHEDULE,
    AccountTable,
    BudgetTable,
    ClientQuotas,
    ClientWeights,
    Days,
    Deadlines,
    KeysRetention,
    Names,
    Networks,
    NotNegative,
    Pooler,
    PriceTable,
    RealTimeTable,
    RequestsRetention,
    Roles,
    Schedule,
    Seconds,
    Secrets,
    SubmitTimeout,
    WindowTexts,
    check_broker_url,
    check_password,
    check_prefixes,
    check_proxy,
    check_public_url,
    check_webhook,
)


class Settings(BaseSettings):
    """Every setting. Intervals are seconds unless their name says days, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix="CARPOOL_", extra="forbid", hide_input_in_errors=True)

    redis_url: Annotated[str, AfterValidator(check_url)] = "redis://127.0.0.1:6379/0"
    key_prefix: Annotated[str, AfterValidator(check_key_prefix)] = ""
    broker_url: Annotated[str, AfterValidator(check_broker_url)] = ""  # "": redis_url
    database_url: str = "sqlite:///.carpool/carpool.db"
    database_pooler: Pooler = "none"
    database_lock_timeout: NotNegative = 30  # 0: forever, as the next
    database_idle_timeout: NotNegative = 60
    inbox_shards: int = Field(default=1, ge=1, le=MAX_SHARDS)

    flush_count: int = Field(default=API_MAX_REQUESTS, ge=1, le=API_MAX_REQUESTS)
    flush_bytes: int = Field(default=250_000_000, ge=1_000, le=API_MAX_BYTES)
    flush_interval: NotNegative = 60

    poll_interval: Seconds = 30
    settle_interval: Seconds = SETTLE_INTERVAL
    fresh_settle_interval: Seconds = FRESH_INTERVAL
    audit_days: Days = 3
    submit_timeout: SubmitTimeout = 600
    claim_interval: Seconds = 30
    queue_limit: int = Field(default=START_QUEUE_LIMIT, ge=1)
    client_weights: ClientWeights = Field(default_factory=dict)
    submit_windows: WindowTexts = Field(default_factory=list)
    cache_shared_prompts: bool = False
    accounts: AccountTable = Field(default_factory=dict)
    max_attempts: int = Field(default=3, ge=1, le=100)
    retry_interval: Seconds = 60
    deadline_share: float = Field(default=SHARE, ge=0.5, le=0.999)
    deadlines: Deadlines = Field(default_factory=dict)

    budgets: BudgetTable = Field(default_factory=dict)
    real_time_budgets: RealTimeTable = Field(default_factory=dict)
    real_time_concurrency: int = Field(default=20, ge=1, le=200)
    real_time_requests_a_minute: int = Field(default=50, ge=1)
    real_time_timeout: SubmitTimeout = 600
    budget_webhook: Annotated[str, AfterValidator(check_webhook)] = ""  # "": none
    quotas: ClientQuotas = Field(default_factory=dict)
    prices: PriceTable = Field(default_factory=dict)

    webhook_secret: Secrets = Field(default_factory=list)
    webhook_allowed_networks: Networks = Field(default_factory=list)
    webhook_public: bool = True
    webhook_proxy: Annotated[SecretStr, AfterValidator(check_proxy)] = SecretStr("")
    webhook_timeout: Seconds = 20
    webhook_concurrency: int = Field(default=100, ge=1, le=2_000)
    webhook_host_concurrency: int = Field(default=20, ge=1, le=2_000)
    webhook_schedule: Schedule = Field(default_factory=lambda: list(WEBHOOK_SCHEDULE))
    webhook_stop_days: Days = 5

    task_allowed: Names = Field(default_factory=lambda: ["*"])
    task_queues_allowed: Names = Field(default_factory=lambda: ["*"])
    task_queue_limit: int = Field(default=10_000, ge=1)

    gateway_public_url: Annotated[str, AfterValidator(check_public_url)] = ""
    gateway_prefixes: Annotated[Names, AfterValidator(check_prefixes)] = Field(default_factory=list)
    gateway_trusted_proxies: Networks = Field(default_factory=list)
    gateway_origins: Names = Field(default_factory=list)
    gateway_max_wait: Seconds = 5
    gateway_most_held: int = Field(default=10_000, ge=1)
    gateway_silence: Seconds = 20
    gateway_ping_interval: Seconds = 15
    gateway_drain: NotNegative = 60

    console_password: Annotated[SecretStr, AfterValidator(check_password)] = SecretStr("")
    console_roles: Roles = Field(default_factory=lambda: [Scope.LOOK])
    console_secret: Annotated[SecretStr, AfterValidator(check_password)] = SecretStr("")

    log_format: Literal["auto", "json", "text"] = "auto"
    params_retention_days: Days = 7
    answers_retention_days: Days = 29
    keys_retention_days: KeysRetention = 0  # 0: forever, as the next
    requests_retention_days: RequestsRetention = 0

    @property
    def broker(self) -> str:
        """The URL of the broker of Celery's messages and of task callbacks."""
        return self.broker_url or self.redis_url

    def redis(self, **options: Any) -> redis.Redis:
        """Return a client of redis_url, not yet connected; `options` are redis-py's."""
        return connect(self.redis_url, self.key_prefix, **options)

    @property
    def limits(self) -> Limits:
        """When a batch is full or due; none exceeds the default account's queue limit: it would never be admitted."""
        count = min(self.flush_count, self.account_limits[None])
        seconds = max(self.flush_interval, SHORTEST_FLUSH)
        may_overlap = not self.cache_shared_prompts  # each batch writes them to the cache anew
        fixed = Limits(count, self.flush_bytes, seconds, parse_all(self.submit_windows), may_overlap)
        return replace(fixed, deadlines=self.deadline_rule, weights=self.client_weights)

    @property
    def deadline_rule(self) -> DeadlineRule:
        """How surely deadlines are kept; a batch that has ended is noticed within a `poll_interval`."""
        return DeadlineRule(self.deadline_share, POSTING_SECONDS + self.poll_interval, self.deadlines)

    @property
    def account_limits(self) -> dict[str | None, int]:
        """How many requests each account may have queued, by its name in the tables; None: the default one."""
        return {None: self.queue_limit} | {
            None if name == DEFAULT else name: account.queue_limit or self.queue_limit
            for name, account in self.accounts.items()
        }

    @property
    def submit_policy(self) -> SubmitPolicy:
        """How sealed batches are posted."""
        return SubmitPolicy(
            submit_timeout=self.submit_timeout,
            queue_limit=self.queue_limit,
            account_limits=self.account_limits,
            windows=parse_all(self.submit_windows),
            cache_shared_prompts=self.cache_shared_prompts,
            settle_interval=self.settle_interval,
            full=self.limits,
        )

    @property
    def collect_policy(self) -> CollectPolicy:
        """How often a request is attempted, how long it waits in between, and when a missing result is believed."""
        return CollectPolicy(self.max_attempts, self.retry_interval, self.settle_interval)

    @property
    def real_time_policy(self) -> RealTimePolicy:
        """Who may pay for calls in real time, and how they are made."""
        at_once, a_minute = self.real_time_concurrency, self.real_time_requests_a_minute
        return RealTimePolicy(self.real_time_budgets, at_once, a_minute, self.real_time_timeout, self.budgets)

    @property
    def doubt_policy(self) -> DoubtPolicy:
        """How long Carpool searches for a batch whose create was never answered."""
        fresh = self.fresh_settle_interval
        return DoubtPolicy(self.submit_timeout, self.settle_interval, fresh_interval=fresh)

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
    """Return this process's settings, read once; from then on their prices are in force."""
    read = read_settings()
    put_in_force(read.prices)
    return read


def _sentence(error: Any) -> str:
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden" and name.isidentifier():
        return f"{name} (in {config_path()}): there is no such setting"
    rule = error["msg"].removeprefix("Value error, ")
    return f"{name} (environment: CARPOOL_{name.upper().split('.')[0]}): {rule}"
