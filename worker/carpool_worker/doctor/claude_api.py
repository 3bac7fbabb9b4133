"""Examines Anthropic's API with one call that costs nothing: the newest batch of the key's workspace."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import time
from urllib.parse import urlsplit

from carpool_worker.claude.client import Claude
from carpool_worker.claude.connection import ADDRESS, ANTHROPIC, obstacles, proxy_variable
from carpool_worker.claude.credentials import DEFAULT, Credentials, variable
from carpool_worker.claude.rate_limit import PREFIX, RateLimit
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.exceptions import ClaudeError

CHECK = "claude"

TIERS = {1_000: ("Start", 200_000), 2_000: ("Build", 300_000), 4_000: ("Scale", 500_000)}
"""By the calls a minute in the headers: the tier, and the requests it may have queued (docs, August 2026)."""

SIMULATOR = "CARPOOL_SIMULATOR_URL"
"""Where the simulator of a running `carpool up` is; commands that find one are told."""

NO_LIST = (
    "the address has no list of batches, without which none is posted: docs/relays.md says what a relay needs"
)

PROXY_REFUSES = 407
UNTRUSTED = "certificate is not trusted"
TRUST = (
    "name your authority's certificate in SSL_CERT_FILE (REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE are not read)"
)

MENDS = {
    401: "set ANTHROPIC_API_KEY to a valid key",
    402: "check the account's billing",
    403: "use a key whose workspace may use the Message Batches API",
    404: NO_LIST,
    405: NO_LIST,
    429: "wait a minute; if it persists, check the account's limits",
}


@dataclass(slots=True)
class ApiAnswer:
    """What the call returned: the newest batch's id (None: the workspace has none) or the error, and the headers."""

    newest: str | None = None
    error: ClaudeError | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    asked_at: float = 0.0  # seconds since the epoch, by this machine's clock
    answered_at: float = 0.0

    @property
    def calls_a_minute(self) -> int | None:
        """Return the rate limit in the headers, None if there is none."""
        text = self.headers.get(f"{PREFIX}limit", "")
        return int(text) if text.isdigit() else None


class _Listener(RateLimit):
    """Delays no call, and keeps the headers of the answer."""

    def __init__(self, answer: ApiAnswer) -> None:
        self._answer = answer

    def seconds_until_allowed(self) -> float:
        return 0.0

    def learn(self, status: int, headers: Mapping[str, str]) -> None:
        self._answer.headers = headers


def ask(credentials: Credentials = DEFAULT) -> ApiAnswer:
    """Ask the API for the newest batch, with one key."""
    answer = ApiAnswer(asked_at=time())
    claude = Claude(_Listener(answer), credentials)
    try:
        answer.newest = next((batch.id for batch in claude.newest({}, 1)), None)
    except ClaudeError as error:
        answer.error = error
    finally:
        claude.close()
    answer.answered_at = time()
    return answer


def judge(answer: ApiAnswer, queue_limit: int, credentials: Credentials = DEFAULT) -> Iterator[Finding]:
    """Judge an account's key, and the queue limit that Carpool is set to for it."""
    if credentials.api_key is None and variable() is None:
        yield _without_key()
        return
    address = _address(credentials)
    yield from judge_surroundings(address)
    if any(one.is_met for one in obstacles(address)):
        return
    host = urlsplit(address).netloc.rpartition("@")[2]
    whose = "the key" if credentials.account is None else f"the key of account {credentials.account}"
    if answer.error:
        yield _refused(address, answer.error, credentials)
        return
    newest = (
        f"its workspace's newest batch is {answer.newest}" if answer.newest else "its workspace has no batch"
    )
    yield ok(CHECK, f"{host} accepts {whose}; {newest}")
    if host == urlsplit(os.environ.get(SIMULATOR, "")).netloc:
        yield ok(CHECK, "this is the simulator of `carpool up`: no money is spent")
    elif host != urlsplit(ANTHROPIC).netloc:
        setting = "the account's base_url" if credentials.base_url else "ANTHROPIC_BASE_URL"
        mend = f"unset {setting}, unless a simulator or a proxy is meant"
        yield warning(CHECK, f"this is not Anthropic but {host}", mend)
    yield from judge_limit(answer.calls_a_minute, queue_limit)


def judge_surroundings(address: str) -> Iterator[Finding]:
    """Judge the proxies and certificates that the environment names; those that this address needs not are warnings."""
    for one in obstacles(address):
        if one.is_met:
            yield wrong(CHECK, one.what, one.mend)
        else:
            yield warning(CHECK, f"{one.what}; {urlsplit(address).hostname} is asked without it", one.mend)


def judge_limit(calls_a_minute: int | None, queue_limit: int) -> Iterator[Finding]:
    """Judge whether the queue limit is that of the account's tier."""
    if calls_a_minute not in TIERS:
        limit = "no limit" if calls_a_minute is None else f"{calls_a_minute:,} calls a minute"
        yield ok(CHECK, f"the API states {limit}: compare queue_limit with the console")
        return
    tier, most = TIERS[calls_a_minute]
    what = f"queue_limit is {queue_limit:,}, and the tier {tier} allows {most:,}"
    if queue_limit > most:
        yield warning(CHECK, f"{what}: batches beyond it are refused", f"set queue_limit to {most}")
    elif queue_limit < most:
        yield warning(CHECK, f"{what}: batches wait needlessly", f"set queue_limit to {most}")
    else:
        yield ok(CHECK, what)


def _without_key() -> Finding:
    if simulator := os.environ.get(SIMULATOR):
        mend = f"to examine it too: ANTHROPIC_BASE_URL={simulator} ANTHROPIC_API_KEY=simulated carpool doctor"
        return warning(CHECK, "there is no API key: `carpool up` uses its simulator", mend)
    return wrong(CHECK, "ANTHROPIC_API_KEY is not set here", "set it here as it is set where the workers run")


def _address(credentials: Credentials) -> str:
    return credentials.base_url or os.environ.get(ADDRESS) or ANTHROPIC


def _refused(address: str, error: ClaudeError, credentials: Credentials) -> Finding:
    host = urlsplit(address).netloc.rpartition("@")[2]
    through = proxy_variable(address)
    if through and error.status in (None, PROXY_REFUSES):
        mend = f"correct the proxy that {through} names, or name {urlsplit(address).hostname} in NO_PROXY"
        return wrong(CHECK, f"{host}: {error}; it is asked through the proxy in {through}", mend)
    if UNTRUSTED in str(error):
        return wrong(CHECK, f"{host}: {error}", TRUST)
    mend = MENDS.get(
        error.status or 0, "check that this machine can reach it, and its status page for outages"
    )
    if credentials.api_key is None and (found := variable()) is not None:
        mend = mend.replace("ANTHROPIC_API_KEY", found)
    return wrong(CHECK, f"{host}: {error}", mend)
