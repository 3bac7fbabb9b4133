"""Decides what follows a failure. Pure: the caller acts on the decision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from carpool_worker.exceptions import RESULTS_GONE, ClaudeError, ResultsCut
from carpool_worker.states import CANCEL as CANCEL_REQUEST
from carpool_worker.states import COMPLETE, DISCARD, RESCHEDULE, RequestState, Transition

FIRST_BACKOFF = 5.0
LONGEST_BACKOFF = 300.0
LONGEST_RETRY_AFTER = 3_600.0
"""Seconds. Each further refusal doubles the wait; the API may ask for more, up to an hour."""

FIRST_PROBE = 60.0
LONGEST_PROBE = 900.0
"""Seconds between the probes of a paused lane; each that fails doubles the wait."""

REJECTING_STATUSES = frozenset({400, 413, 422})
"""The body is at fault: it will never be accepted."""

OPERATOR_STATUSES = frozenset({301, 302, 307, 308, 401, 402, 403, 404, 405})
"""The key, the account or the address is at fault: only an operator can fix that."""

SPEND_LIMIT_REACHED = "enforced_spend_limit_reached"
"""The error code of a spend cap: the one 429 that does not pass by itself."""

ACCOUNT_TROUBLE = re.compile(r"credit balance|billing|spend", re.IGNORECASE)
"""Words of a 400 that is about the account: no request of the batch is at fault."""

INCURABLE_ERRORS = frozenset({"invalid_request_error", "not_found_error", "request_too_large"})
"""Error types that recur however often a request is sent: it must be changed first (API docs)."""

UNBILLED_OUTCOMES = frozenset({"errored", "canceled", "expired"})
"""Outcomes that cost nothing (API docs). After an unknown one, another attempt could be a second bill."""

RESULTS_KEPT = 29 * 86_400.0
"""For how many seconds from a batch's creation Anthropic keeps its results; what was not read by then is gone. Before
that no 404 proves it: it may be temporary, or the answer to a key that may not see the batch."""

jitter = Random()  # noqa: S311 - spreads load, keeps no secret


@dataclass(frozen=True, slots=True)
class CollectPolicy:
    """How often a request is attempted, how long it waits after an error, and when what results lack is believed.

    What a batch's results lack counts once a second read, `settle_interval` seconds after the first, lacks it too.
    """

    max_attempts: int
    retry_interval: float  # seconds, doubled with each further attempt
    settle_interval: float = 120.0


@dataclass(frozen=True, slots=True)
class Postpone:
    """Refused for now: try again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Refused for a reason that stops every batch of the lane until an operator fixes it: the key or the account."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Refused for good: this body will never be accepted."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """It is unknown whether the batch was made; it must not be posted again until that is known."""


def before_submission(error: ClaudeError, submissions: int) -> Postpone | Pause:
    """Decide what follows if the call before a post failed; nothing was posted, so nothing is in doubt."""
    return Pause() if needs_an_operator(error) else Postpone(backoff(submissions, error.retry_after))


def after_submission(error: ClaudeError, submissions: int) -> Postpone | Pause | Reject | Doubt:
    """Decide what follows a create that failed; `submissions` counts the posts so far, this one included."""
    if not error.certain:
        return Doubt()
    if needs_an_operator(error):
        return Pause()
    if error.status in REJECTING_STATUSES:
        return Reject()
    return Postpone(backoff(submissions, error.retry_after))


def needs_an_operator(error: ClaudeError) -> bool:
    """Return whether only an operator can mend what a refusal is about: the key, the account or the address."""
    is_capped = error.error_code == SPEND_LIMIT_REACHED
    about_the_account = error.status == 400 and bool(ACCOUNT_TROUBLE.search(str(error)))
    return is_capped or about_the_account or error.status in OPERATOR_STATUSES


def status_of(error: ClaudeError) -> str:
    """Return what a refusal is counted as: the HTTP status, or none (no answer), offline, or paced (not asked)."""
    if error.status is None:
        return "offline" if error.certain else "none"
    # A 429 of the API's has an error type; without one it is ours, from RateLimit.
    return "paced" if error.status == 429 and error.kind is None else str(error.status)


def probe_delay(probes: int) -> float:
    """Return the seconds until the next probe of a lane that is still paused after `probes` of them."""
    return min(LONGEST_PROBE, FIRST_PROBE * 2.0 ** min(probes, 10))


def backoff(failures: int, retry_after: float | None = None) -> float:
    """Return the seconds to wait after `failures` in a row; never less than the API asked for, up to an hour."""
    doubled = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures - 1, 10)) * jitter.uniform(0.8, 1.2)
    return max(doubled, min(retry_after or 0.0, LONGEST_RETRY_AFTER))


def after_results(error: ClaudeError | ResultsCut, seconds_since_end: float) -> float | None:
    """Return the seconds until results that were cut short are read again, or None if they are gone for good."""
    if seconds_since_end > RESULTS_KEPT:
        return None
    if isinstance(error, ClaudeError) and error.kind == RESULTS_GONE:
        return None
    return max(backoff(1, error.retry_after), min(seconds_since_end / 10, LONGEST_BACKOFF))


def is_gone(error: ClaudeError, seconds_since_creation: float) -> bool:
    """Return whether a batch that can't be retrieved will never be: whoever asks, its results are no longer kept."""
    return error.status == 404 and seconds_since_creation > RESULTS_KEPT


def after_outcome(
    outcome: str, error_type: str | None, attempt: int, max_attempts: int
) -> Transition[RequestState]:
    """Decide what becomes of a request whose result says `outcome`; `attempt` counts from 1."""
    if outcome == "succeeded":
        return COMPLETE
    if outcome == "errored" and error_type in INCURABLE_ERRORS:
        return DISCARD
    if outcome in UNBILLED_OUTCOMES and attempt < max_attempts:
        return RESCHEDULE
    return CANCEL_REQUEST if outcome == "canceled" else DISCARD


def retry_delay(outcome: str, attempt: int, interval: float) -> float:
    """Return the seconds until a retryable request goes into a new batch: 0 unless the API failed."""
    if outcome != "errored":
        return 0.0
    return interval * 2.0 ** min(attempt - 1, 6) * jitter.uniform(0.8, 1.2)
