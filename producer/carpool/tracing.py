"""The trace that a request belongs to (W3C Trace Context), so that its callback can continue it."""

from __future__ import annotations

import re
import sys

TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, section 3.2, without what later versions may append."""


def current() -> str | None:
    """Return the traceparent of OpenTelemetry's current span, or None if there is none.

    Nothing is imported: a service that has not imported OpenTelemetry has no span either.
    """
    get_current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if get_current_span is None:
        return None
    span = get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 0xFF:02x}"
