"""The Messages API, as Carpool uses it: single requests, in real time.

A call whose answer is lost can't be looked up, and the API takes no idempotency key: whoever makes the same call again
may pay twice. So nothing is repeated here, and the end of each body waits until the tables still have the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import NamedTuple

import httpx2

from carpool_worker.claude.client import open_sdk
from carpool_worker.claude.credentials import Credentials, unsendable
from carpool_worker.claude.fence import Fence
from carpool_worker.claude.rate_limit import RateLimit
from carpool_worker.claude.results import ReadResult, read_message_result
from carpool_worker.claude.translation import translated
from carpool_worker.exceptions import ClaudeError
from carpool_worker.policies.in_doubt import CONNECT_TIMEOUT

MESSAGES = "/v1/messages"

KINDS = ("requests", "input-tokens", "output-tokens")
"""The limits of which an answer tells how much is left (API docs, "Rate limits")."""

KEY_HEADER = "Idempotency-Key"
"""Anthropic ignores it; a relay that knows it makes no call twice."""


class DirectMessage(NamedTuple):
    """A message, as the result that it would be in a batch, and its id."""

    result: ReadResult
    message_id: str


class Messages:
    """A client of the Messages API, with one key. Its calls may come from many threads."""

    def __init__(self, rate_limit: RateLimit, credentials: Credentials, timeout: float) -> None:
        self._rate_limit = rate_limit
        self._timeout = timeout
        self._unusable = credentials.unusable or unsendable(credentials)
        limits = httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT)
        self._client = open_sdk(credentials, self._learn, limits)

    def seconds_until_allowed(self) -> float:
        """Return the seconds until the API allows this account another call; 0 is now."""
        return self._rate_limit.seconds_until_allowed()

    def call(self, params: bytes, headers: Mapping[str, str], key: str, fence: Fence) -> DirectMessage:
        """Have a request answered, whose params are a JSON object.

        Raises:
            ClaudeError: it was refused (`certain`), or it is unknown whether it was answered (not `certain`).
        """
        if self._unusable:
            raise ClaudeError(self._unusable, status=401)
        length = {"Content-Type": "application/json", "Content-Length": str(len(params))}
        with translated():
            response = self._client.post(
                MESSAGES,
                content=fence.pass_through(BytesIO(params), len(params)),
                cast_to=httpx2.Response,
                options={"headers": {**headers, **length, KEY_HEADER: key}},
            )
            return DirectMessage(*read_message_result(response.content))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _learn(self, response: httpx2.Response) -> None:
        self._rate_limit.learn(response.status_code, response.headers)
