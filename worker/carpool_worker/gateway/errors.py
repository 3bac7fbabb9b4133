"""Errors as Anthropic's API words them, so that every SDK raises what it raises for the API itself."""

from __future__ import annotations

from collections.abc import Mapping

import redis
import sqlalchemy as sa
from aiohttp import web

from carpool.contract import to_json
from carpool.exceptions import (
    CarpoolError,
    IdempotencyConflict,
    InvalidRequest,
    NotDurable,
    QueueFull,
    RedisUnavailable,
)
from carpool.quotas import ReachedQuota
from carpool.refusals import QuotasUnknown
from carpool_worker.exceptions import WorkerError

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The type of an error by its status; api_error is that of all others."""

LONGEST_RETRY_AFTER = 30
"""Seconds: SDKs obey `retry-after` without a limit of their own."""

AWAY_RETRY_AFTER = 5
FULL_RETRY_AFTER = 15
"""Seconds."""

AWAY = (
    redis.RedisError,
    RedisUnavailable,
    NotDurable,
    QuotasUnknown,
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
)
"""What is raised while Redis or the database can't be reached."""


class GatewayError(WorkerError):
    """Raised anywhere in a call, to answer it with this status and an error body of Anthropic's.

    `kind` is the type in the body, by default the status's own. `retry_after` is in seconds. `should_retry` tells SDKs
    whether to try again by themselves; None leaves it to the status.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind or KINDS.get(status, "api_error")
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(max(1, min(LONGEST_RETRY_AFTER, round(retry_after))))
        if should_retry is not None:
            self.headers["x-should-retry"] = str(should_retry).lower()

    def body(self, request_id: str) -> bytes:
        """Return the body, JSON."""
        return error_body(self.kind, self.message, request_id)

    def response(self, request_id: str) -> web.Response:
        """Return the answer."""
        body = self.body(request_id)
        return web.Response(
            body=body, status=self.status, headers=self.headers, content_type="application/json"
        )


def error_body(kind: str, message: str, request_id: str) -> bytes:
    """Return an error as the API writes it."""
    error = {"type": kind, "message": message}
    return to_json({"type": "error", "error": error, "request_id": request_id})


def not_found(what: str) -> GatewayError:
    """Return the error for what there is not, or what is another tenant's: the two look the same."""
    return GatewayError(404, f"{what} not found.")


def key_reused() -> GatewayError:
    """Return the error for an idempotency key that came with another request than before."""
    return GatewayError(422, "Idempotency-Key: this key was used with another request.", should_retry=False)


def as_gateway_error(error: Exception) -> GatewayError | None:
    """Return what answers a call in which this was raised; None for what nobody expected."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, IdempotencyConflict):
        return key_reused()
    if isinstance(error, InvalidRequest):
        return GatewayError(400, str(error))
    if isinstance(error, QueueFull) and error.quota:
        return _over_quota(error.quota)
    if isinstance(error, QueueFull):
        return GatewayError(529, f"Overloaded: {error}", retry_after=FULL_RETRY_AFTER)
    if isinstance(error, AWAY):
        return _away(error)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return GatewayError(413, error.text or error.reason)
    if isinstance(error, web.HTTPException):
        return GatewayError(error.status, error.reason, headers=_allowed(error))
    return None


def _over_quota(quota: ReachedQuota) -> GatewayError:
    field = "most_queued" if quota.owner == "key" else f"quotas.{quota.name}.{quota.what}"
    message = f"{field}: {quota}."
    if quota.never_fits:
        return GatewayError(400, message, should_retry=False)
    return GatewayError(429, message, retry_after=FULL_RETRY_AFTER)


def _away(error: Exception) -> GatewayError:
    of_redis = isinstance(error, redis.RedisError | CarpoolError)
    if isinstance(error, NotDurable):
        reason = "Redis did not confirm that the request is on disk."
    elif isinstance(error, QuotasUnknown):
        reason = "What this key has waiting is not known yet."
    else:
        reason = f"{'Redis' if of_redis else 'The database'} can't be reached."
    return GatewayError(503, f"{reason} Nothing is lost; try again.", retry_after=AWAY_RETRY_AFTER)


def _allowed(error: web.HTTPException) -> dict[str, str]:
    allowed = error.headers.get("Allow")
    return {"allow": allowed} if allowed else {}
