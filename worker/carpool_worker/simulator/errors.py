"""The API's errors: their statuses, types and bodies."""

from collections.abc import Mapping
from typing import Any

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

SPEND_LIMIT_REACHED = "enforced_spend_limit_reached"
"""The error code of a spend cap: a 429 that has no Retry-After."""


class ApiError(Exception):
    """Raised to answer a call with this status and an error body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.details = details

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the error as the API writes it: `{"type": "error", "error": {…}, "request_id"}`."""
        error: dict[str, Any] = {"type": ERROR_TYPES.get(self.status, "api_error"), "message": self.message}
        if self.details is not None:
            error["details"] = dict(self.details)
        return {"type": "error", "error": error, "request_id": request_id}


def invalid(message: str) -> ApiError:
    """Return a 400 `invalid_request_error`."""
    return ApiError(400, message)


def no_such_batch() -> ApiError:
    """Return the 404 of an unknown or deleted batch."""
    return ApiError(404, "Message Batch ID not found.")
