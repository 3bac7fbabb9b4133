"""Metrics of clients' quotas. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from carpool_worker.metrics.families import counter, gauge
from carpool_worker.views.quotas import QuotaView

MOST_CLIENTS = 100
"""Clients that get a label of their own, the fullest first: under a default quota there may be any number."""


def of_quotas(quotas: Sequence[QuotaView]) -> Iterator[Metric]:
    """Yield what clients may have waiting, what they have, and how often they were refused."""
    some, per = quotas[:MOST_CLIENTS], ("client",)
    limits = [((one.client,), one.requests) for one in some if one.requests]
    yield gauge("quota_requests", "Requests that a client may have without an answer.", per, limits)
    waiting = [((one.client,), one.waiting_requests) for one in some]
    text = "Requests without an answer of a client with a quota, the inbox included."
    yield gauge("quota_waiting_requests", text, per, waiting)
    limits = [((one.client,), one.bytes) for one in some if one.bytes]
    yield gauge("quota_bytes", "Bytes of params that a client may have without an answer.", per, limits)
    waiting = [((one.client,), one.waiting_bytes) for one in some]
    text = "Bytes of params without an answer of a client with a quota, the inbox included."
    yield gauge("quota_waiting_bytes", text, per, waiting)
    refused = [((one.client,), one.refused) for one in some]
    yield counter(
        "quota_refusals", "How often a door refused a client whose quota was reached.", per, refused
    )
