"""Params that belong elsewhere, and names that are near misses of the Messages API's."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from carpool.exceptions import InvalidRequest

ELSEWHERE: Mapping[str, str] = {
    "betas": "must be given beside the params: enqueue(params, betas=[…]), as it is a header of the whole batch",
    "extra_headers": "can't be sent: a batch has headers, its requests have none; of them enqueue has betas, "
    "user_profile_id and workspace_id",
    "extra_query": "can't be sent: only a whole batch has a URL",
    "extra_body": "must not be given: put its keys into the params themselves",
    "timeout": "must not be given: enqueue has max_wait, and wait has a timeout",
}
"""What an SDK's `create` takes beside the body."""

# fmt: off
KNOWN = frozenset({
    "cache_control", "compaction", "container", "context_management", "diagnostics", "inference_geo",
    "max_tokens", "mcp_servers", "messages", "metadata", "model", "output_config", "service_tier",
    "speed", "stop_sequences", "stream", "system", "temperature", "thinking", "thread", "tool_choice",
    "tools", "top_k", "top_p",
})
# fmt: on
"""The Messages API's params, betas included (`MessageCreateParams` of its SDK 2.12)."""

LIKENESS = 0.8


class UnknownParam(UserWarning):
    """A param has a name that the Messages API is not known to have, and that is nearly one that it has.

    It is sent as it is: the API changes faster than this package.
    """


def check_places(params: Iterable[object]) -> None:
    """Raise InvalidRequest, saying what to do instead, for params that belong elsewhere."""
    for name in params:
        if isinstance(name, str) and name in ELSEWHERE:
            raise InvalidRequest(name, ELSEWHERE[name])


def warn_of_near_misses(params: Iterable[object]) -> None:
    """Warn of params whose names are nearly known ones; the warning points to the caller's own line."""
    for name in params:
        if isinstance(name, str) and name not in KNOWN and (meant := near(name)):
            warnings.warn(
                f"params: there is no {name!r} that Carpool knows of: did you mean {meant!r}? It is sent as it is.",
                UnknownParam,
                stacklevel=_level(),
            )


@lru_cache(maxsize=1024)
def near(name: str, known: Iterable[str] = KNOWN) -> str | None:
    """Return the known name that is most like this one; None if none is much like it."""
    return next(iter(get_close_matches(name, known, 1, LIKENESS)), None)


def unexpected(given: Iterable[str], known: frozenset[str]) -> str:
    """Return what to say of keywords of which an enqueue doesn't have one."""
    name = min(set(given) - known)
    meant = near(name, known | {"idempotency_key"})
    hint = f"did you mean {meant!r}?" if meant else f"there are idempotency_key, {', '.join(sorted(known))}"
    return f"enqueue got an unexpected keyword argument {name!r}: {hint}"


def _level() -> int:
    """Return how far up the first frame is that is none of this package's, as `warnings.warn` counts."""
    here, level, frame = str(Path(__file__).parent), 1, sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(here):
        frame, level = frame.f_back, level + 1
    return level
