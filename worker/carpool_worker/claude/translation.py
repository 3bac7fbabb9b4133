"""What the SDK raises, as a ClaudeError: what the API said, and whether the call is known to have had no effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx2

from carpool_worker.claude import times
from carpool_worker.exceptions import ClaudeError

REDIRECTS = frozenset({301, 302, 307, 308})
"""The API is at another address: nothing was done at this one. They are not followed; a 303 follows what was done."""

CERTAIN_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 413, 422, 429, 529}) | REDIRECTS
"""Refusals: the API did nothing. After any other error a batch may have been made.

So after 407, too, though the proxy that says it does not forward the request (RFC 9110, 15.5.8): no status of the API's
own, it can come from any proxy or relay on the way, as the answer to what one before it has sent for a second time. A
proxy that refuses to open a tunnel is no such answer, see NEVER_SENT.
"""

NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)
"""What is raised before the first byte of a request leaves.

ProxyError: a proxy refuses CONNECT, or SOCKS' handshake, and only in the tunnel would it be given a request; it is
raised nowhere else (httpcore2's http_proxy.py, socks_proxy.py). UnsupportedProtocol: the pool refuses the address
before it looks for a connection; redirects, which could lead to such an address after a request, are not followed.
"""

NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""In the message of a connection that failed because no authority trusted here signed the server's certificate."""

UNAUTHENTICATED = "authentication method"
"""In what the SDK raises, before it sends anything, where it has neither a key nor a token."""

NO_KEY = "there is no API key: set ANTHROPIC_API_KEY"

MALFORMED = (
    httpx2.HTTPError,
    TimeoutError,
    anthropic.APIResponseValidationError,
    ValueError,
    RecursionError,  # of JSON that is nested deeper than can be read
    AttributeError,  # of an answer that is not JSON the SDK returns the text
)
"""What is raised for an answer that is cut short or unreadable."""

STATUS = "carpool.status"
"""Among the extensions of a request: the status of its answer, known before the body is read (see Claude._learn)."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the SDK and its HTTP client raise into a ClaudeError that says whether anything was sent."""
    try:
        yield
    except anthropic.APIStatusError as error:
        raise _from_status(error) from error
    except anthropic.APIConnectionError as error:
        if isinstance(error.__cause__, ClaudeError):  # what would stop the call was known before
            raise error.__cause__ from None
        raise _no_answer(error.__cause__ or error) from error
    except MALFORMED as error:
        raise _unreadable("no whole answer", _flaw(error), error) from error
    except (anthropic.AnthropicError, TypeError) as error:  # TypeError: there is no key
        said = NO_KEY if UNAUTHENTICATED in str(error) else f"the SDK refused to send: {error}"
        raise ClaudeError(said, status=401, certain=False) from error


def _no_answer(cause: BaseException) -> ClaudeError:
    reason = type(cause).__name__
    if NOT_TRUSTED in str(cause):
        reason = "its certificate is not trusted"
    if isinstance(cause, NEVER_SENT):
        return ClaudeError(f"no answer: {reason}")
    return _unreadable("no answer", reason, cause)


def _unreadable(what: str, reason: str, cause: BaseException) -> ClaudeError:
    """Return the error of an answer of which no more than a status was read: a refusal stays one, whatever its body."""
    status = _status(cause)
    if status is None or status < HTTPStatus.MULTIPLE_CHOICES:
        return ClaudeError(f"{what}: {reason}", certain=False)
    certain = status in CERTAIN_STATUSES
    return ClaudeError(f"{status}, unreadable: {reason}", status=status, certain=certain)


def _flaw(error: BaseException) -> str:
    return (
        type(error).__name__
        if isinstance(error, httpx2.HTTPError | TimeoutError)
        else "it is no JSON of the API"
    )


def _status(cause: BaseException) -> int | None:
    with suppress(AttributeError, RuntimeError):  # RuntimeError: httpx2 raised it outside of any request
        status: int | None = cause.request.extensions.get(STATUS)  # type: ignore[attr-defined]
        return status
    return None


def _from_status(error: anthropic.APIStatusError) -> ClaudeError:
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    inner = inner if isinstance(inner, dict) else {}
    kind = str(inner.get("type") or "error")
    text = str(inner.get("message") or _said(error))
    return ClaudeError(
        f"{error.status_code} {kind}: {text}",
        status=error.status_code,
        kind=kind,
        error_code=_error_code(body) or _error_code(inner),
        retry_after=times.retry_after(error.response.headers),
        certain=error.status_code in CERTAIN_STATUSES,
    )


def _said(error: anthropic.APIStatusError) -> str:
    if error.response.has_redirect_location:
        return f"the API has moved to {_moved_to(error.response.headers['location'])}: not followed"
    return str(error.response.reason_phrase)


def _moved_to(location: str) -> str:
    try:
        target = urlsplit(location)
    except ValueError:
        return "what is no URL"
    return f"{target.scheme}://{target.hostname}" if target.hostname else "another path"


def _error_code(body: Mapping[str, Any]) -> str | None:
    details = body.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    return code if isinstance(code, str) else None
