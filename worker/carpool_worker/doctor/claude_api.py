"""Looks at Anthropic's API with one call that costs nothing: the newest batch of the key's workspace."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import time
from urllib.parse import urlsplit

from carpool_worker.claude.client import Claude
from carpool_worker.claude.rate_limit import PREFIX, RateLimit
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.exceptions import ClaudeError

CHECK = "claude"
ANTHROPIC = "api.anthropic.com"

TIERS = {1_000: ("Start", 200_000), 2_000: ("Build", 300_000), 4_000: ("Scale", 500_000)}
"""By the calls a minute that the headers tell: the tier, and the requests it may have queued (docs, August 2026)."""

MENDS = {
    401: "set ANTHROPIC_API_KEY to a key that is valid",
    402: "look at the account's billing",
    403: "take a key whose workspace may use the Message Batches API",
    429: "wait a minute; if it stays, look at the account's limits",
}


@dataclass(slots=True)
class Answer:
    """What the call brought: the newest batch's id (None: the workspace has none), or the error, and the headers."""

    newest: str | None = None
    error: ClaudeError | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    asked_at: float = 0.0  # seconds since the epoch, by this machine's clock
    answered_at: float = 0.0

    @property
    def calls_a_minute(self) -> int | None:
        """Return the rate limit that the headers tell."""
        text = self.headers.get(f"{PREFIX}limit", "")
        return int(text) if text.isdigit() else None


class _Listener(RateLimit):
    """Holds nothing back, and keeps the headers."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def held(self) -> float:
        return 0.0

    def learn(self, status: int, headers: Mapping[str, str]) -> None:
        self._answer.headers = headers


def ask() -> Answer:
    """Make the call."""
    answer = Answer(asked_at=time())
    claude = Claude(_Listener(answer))
    try:
        answer.newest = claude.newest_id({})
    except ClaudeError as error:
        answer.error = error
    finally:
        claude.close()
    answer.answered_at = time()
    return answer


def judge(answer: Answer, queue_limit: int) -> Iterator[Finding]:
    """Say what is wrong with the key, or with the limit that Carpool is set to."""
    host = urlsplit(os.environ.get("ANTHROPIC_BASE_URL") or f"https://{ANTHROPIC}").netloc.rpartition("@")[2]
    if answer.error:
        yield _refused(host, answer.error) if os.environ.get("ANTHROPIC_API_KEY") else _without_key()
        return
    newest = f"its workspace's newest batch is {answer.newest}" if answer.newest else "it has no batches yet"
    yield ok(CHECK, f"{host} takes the key; {newest}")
    if host != ANTHROPIC:
        mend = "take ANTHROPIC_BASE_URL away, unless a simulator or a proxy is meant"
        yield warning(CHECK, f"this is not Anthropic but {host}", mend)
    yield from judge_limit(answer.calls_a_minute, queue_limit)


def judge_limit(calls_a_minute: int | None, queue_limit: int) -> Iterator[Finding]:
    """Say whether the queue limit is that of the account's tier."""
    if calls_a_minute not in TIERS:
        told = "no limit" if calls_a_minute is None else f"{calls_a_minute:,} calls a minute"
        yield ok(CHECK, f"the API tells of {told}: whether queue_limit is right, the console shows")
        return
    tier, most = TIERS[calls_a_minute]
    what = f"queue_limit is {queue_limit:,}, and {most:,} may be queued in the tier {tier}"
    if queue_limit > most:
        yield warning(CHECK, f"{what}: batches beyond are refused", f"set queue_limit to {most}")
    elif queue_limit < most:
        yield warning(CHECK, f"{what}: batches wait without need", f"set queue_limit to {most}")
    else:
        yield ok(CHECK, what)


def _without_key() -> Finding:
    if simulator := os.environ.get("CARPOOL_SIMULATOR_URL"):
        mend = f"to look at it too: ANTHROPIC_BASE_URL={simulator} ANTHROPIC_API_KEY=simulated carpool doctor"
        return warning(CHECK, "there is no API key: `carpool up` has its simulator", mend)
    return wrong(CHECK, "ANTHROPIC_API_KEY is not set here", "set it, as where the workers run")


def _refused(host: str, error: ClaudeError) -> Finding:
    mend = MENDS.get(error.status or 0, "see that this machine reaches it; its status page tells of outages")
    return wrong(CHECK, f"{host}: {error}", mend)
