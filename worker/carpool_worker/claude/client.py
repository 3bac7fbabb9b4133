"""The Message Batches API, as Carpool uses it. This module and messages.py alone call the SDK.

If an answer is lost, the SDK by default posts a create up to three times, without an idempotency key: three bills. So
its retries are off; the caller decides, from the ClaudeError, what may be sent again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import IO, Any, NamedTuple, cast
from urllib.parse import quote

import anthropic
import httpx2
from anthropic.types.messages import MessageBatch

from carpool.contract import WORKSPACE_HEADER
from carpool_worker.claude import times
from carpool_worker.claude.batch import RemoteBatch, read_batch
from carpool_worker.claude.connection import ADDRESS, ANTHROPIC, is_url, open_http
from carpool_worker.claude.credentials import DEFAULT, Credentials, unsendable
from carpool_worker.claude.fence import Fence
from carpool_worker.claude.rate_limit import RateLimit
from carpool_worker.claude.result_lines import result_lines
from carpool_worker.claude.sockets import hooks
from carpool_worker.claude.translation import STATUS, translated
from carpool_worker.exceptions import RESULTS_GONE, ClaudeError
from carpool_worker.policies import in_doubt
from carpool_worker.units import Milliseconds

BATCHES = "/v1/messages/batches"
LIST_LIMIT = 1_000
STREAMED = "X-Stainless-Raw-Response"
"""The SDK's own header for an answer whose body is not read at once."""

DOWNLOAD_CHUNK = 1 << 18
ORGANIZATION_HEADER = "anthropic-organization-id"
"""Of answers: the organization that the key belongs to."""

REFUSED_STATUSES = frozenset({401, 403})
"""The key is no longer valid, or may not use this."""


class DirectAnswer(NamedTuple):
    """What the API answered: HTTP's status, the bytes of the body, and the seconds after which to ask again."""

    status: int
    body: bytes
    retry_after: float | None


class Claude:
    """A client of the Message Batches API, with one key: by default configured like the SDK, by the environment.

    With a `rate_limit` it makes no call while the API allows none, but raises a ClaudeError that is certain, with
    status 429 and `retry_after`. `answered_at` is when the API answered last, by its own clock, in milliseconds since
    the epoch: its Date header (RFC 9110, section 6.6.1), to the second; None if the answer had none. `refused` is
    whether it did not accept the key then; the ids are those that an answer named, if any did.
    """

    def __init__(self, rate_limit: RateLimit | None = None, credentials: Credentials = DEFAULT) -> None:
        self._rate_limit = rate_limit
        self.credentials = credentials
        self.answered_at: Milliseconds | None = None
        self.refused = False
        self.organization: str | None = None
        self.workspace: str | None = None
        self._unusable = credentials.unusable or unsendable(credentials)
        self._client = open_sdk(credentials, self._learn, _timeout(in_doubt.READ_TIMEOUT))

    def secret(self, headers: Mapping[str, str]) -> bytes:
        """Return what identifies whoever calls with these headers: the address, the key, and the workspace it selects.

        It contains the key itself, so it is for fingerprints only (see store/claude_keys.py).
        """
        workspace = headers.get(WORKSPACE_HEADER) or self.credentials.workspace or ""
        key = self._client.api_key or self._client.auth_token or ""
        return "\n".join((str(self._client.base_url), key, workspace)).encode()

    def create(self, body: IO[bytes], length: int, headers: Mapping[str, str], fence: Fence) -> RemoteBatch:
        """Post a batch whose JSON body is the `length` bytes of `body`, as far as the fence lets it pass.

        Raises:
            ClaudeError: it was refused (`certain`), or it is unknown whether it was made (not `certain`).
        """
        sent = {**headers, "Content-Type": "application/json", "Content-Length": str(length)}
        with self._call():
            made = self._client.post(
                BATCHES,
                content=fence.pass_through(body, length),
                cast_to=MessageBatch,
                options={"headers": sent, "timeout": _timeout(fence.seconds)},
            )
        return read_batch(made)

    def retrieve(self, claude_id: str, headers: Mapping[str, str]) -> RemoteBatch:
        """Return one batch. A 404 may be temporary: one alone proves nothing."""
        with self._call():
            return read_batch(self._client.messages.batches.retrieve(claude_id, extra_headers=headers))

    def cancel(self, claude_id: str, headers: Mapping[str, str]) -> RemoteBatch:
        """Cancel a batch that is in progress; what has run by then is kept, and billed."""
        with self._call():
            return read_batch(self._client.messages.batches.cancel(claude_id, extra_headers=headers))

    def newest(self, headers: Mapping[str, str], limit: int) -> list[RemoteBatch]:
        """Return the workspace's `limit` newest batches, newest first, with one call."""
        with self._call():
            return self._page(headers, limit)[0]

    def list_newest(self, headers: Mapping[str, str]) -> Iterator[RemoteBatch]:
        """Yield the workspace's batches, newest first, with one call for each thousand.

        Raises:
            ClaudeError: an answer was no page of the list, or the same one again: a proxy's, for example.
        """
        with self._call():
            page, has_more = self._page(headers, LIST_LIMIT)
            seen: set[str] = set()
            while page:
                yield from page
                if not has_more:
                    return
                seen.update(remote.id for remote in page)
                page, has_more = self._page(headers, LIST_LIMIT, page[-1].id)
                if page and page[0].id in seen:
                    raise ClaudeError("the list of batches repeats itself", certain=False)

    def _page(
        self, headers: Mapping[str, str], limit: int, after_id: str | None = None
    ) -> tuple[list[RemoteBatch], bool]:
        after = anthropic.omit if after_id is None else after_id
        try:
            page = self._client.messages.batches.list(limit=limit, after_id=after, extra_headers=headers)
            listed: Any = page.data
        except AttributeError:  # of an answer that is not JSON the SDK takes the text for a page
            listed = None
        if not isinstance(listed, list):
            raise ClaudeError("the answer to the list of batches is no list", certain=False)
        return [read_batch(batch) for batch in listed], bool(page.has_more)

    def results(self, claude_id: str, headers: Mapping[str, str]) -> Iterator[bytes]:
        """Yield the result lines of an ended batch, byte for byte, without their newline.

        Raises:
            ResultsCut: the stream ended within a line.
            ClaudeError: there are no results yet, or, with the kind RESULTS_GONE, no longer: after 29 days a batch is
                archived.
        """
        with self._call():
            try:
                response = self._stream(f"{BATCHES}/{quote(claude_id, safe='')}/results", headers)
            except anthropic.NotFoundError:
                if self._client.messages.batches.retrieve(claude_id, extra_headers=headers).archived_at:
                    gone = "the batch is archived: its results are gone"
                    raise ClaudeError(gone, status=404, kind=RESULTS_GONE) from None
                raise
            with closing(response):
                yield from result_lines(response.iter_bytes(DOWNLOAD_CHUNK))

    def call(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> DirectAnswer:
        """Return what the API answers to a call that it answers at once, errors included, as it stands.

        Raises:
            ClaudeError: no answer came.
        """
        options: Any = {"headers": headers}
        with self._call():
            try:
                if method == "POST":
                    answer = self._client.post(path, content=body, cast_to=httpx2.Response, options=options)
                else:
                    answer = self._client.get(path, cast_to=httpx2.Response, options=options)
            except anthropic.APIStatusError as error:
                answer = error.response
            return DirectAnswer(answer.status_code, answer.content, times.retry_after(answer.headers))

    def _stream(self, path: str, headers: Mapping[str, str]) -> anthropic.APIResponse[object]:
        # Not the SDK's results(): it sends the key to whatever address results_url names.
        asked = {STREAMED: "stream", "Accept": "application/x-jsonl, application/binary, */*", **headers}
        response: Any = self._client.get(path, cast_to=object, options={"headers": asked})
        return cast(anthropic.APIResponse[object], response)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def _call(self) -> Iterator[None]:
        if self._unusable:
            raise ClaudeError(self._unusable, status=401)
        if self._rate_limit and (seconds := self._rate_limit.seconds_until_allowed()):
            waits = f"not asked for {seconds:.0f} s: the API's rate limit leaves no call"
            raise ClaudeError(waits, status=429, retry_after=seconds)
        with translated():
            yield

    def _learn(self, response: httpx2.Response) -> None:
        response.request.extensions[STATUS] = response.status_code
        answered_at = times.answered_at(response.headers)
        self.answered_at = times.milliseconds(answered_at) if answered_at else None
        self.refused = response.status_code in REFUSED_STATUSES
        self.organization = response.headers.get(ORGANIZATION_HEADER) or self.organization
        self.workspace = response.headers.get(WORKSPACE_HEADER) or self.workspace
        if self._rate_limit:
            self._rate_limit.learn(response.status_code, response.headers)


def open_sdk(
    credentials: Credentials, learn: Callable[[httpx2.Response], None], timeout: httpx2.Timeout
) -> anthropic.Anthropic:
    """Return the SDK's client for a key; it repeats nothing by itself, and `learn` gets each answer."""
    address = credentials.base_url or os.environ.get(ADDRESS) or ANTHROPIC
    return anthropic.Anthropic(
        api_key=credentials.api_key,
        base_url=_base_url(address, credentials),
        default_headers={WORKSPACE_HEADER: credentials.workspace} if credentials.workspace else {},
        max_retries=0,
        timeout=timeout,
        http_client=open_http(address, hooks(learn)),
    )


def _base_url(address: str, credentials: Credentials) -> str | None:
    """Return what the SDK is to call: None leaves it to a profile of its own; nothing is sent to what is no URL."""
    if not credentials.base_url and ADDRESS not in os.environ:
        return None
    return address if is_url(address) else ANTHROPIC


def _timeout(seconds: float) -> httpx2.Timeout:
    return httpx2.Timeout(min(seconds, in_doubt.READ_TIMEOUT), connect=in_doubt.CONNECT_TIMEOUT)
