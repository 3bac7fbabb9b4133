"""Metrics of the gateways. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from carpool_worker.metrics.families import counter, gauge
from carpool_worker.views.gateways import GatewayView


def of_gateways(gateways: Sequence[GatewayView]) -> Iterator[Metric]:
    """Yield how many there are, what each holds, and how it has answered."""
    alive = [one for one in gateways if one.is_alive]
    counts = [(("alive",), len(alive)), (("dead",), len(gateways) - len(alive))]
    yield gauge("gateways", "Gateways that live, and that died in the last hour.", ("state",), counts)
    held = [((one.name,), one.held) for one in alive]
    yield gauge("gateway_held_calls", "Calls that wait at a gateway for their answer.", ("gateway",), held)
    most = [((one.name,), one.most_held) for one in alive]
    yield gauge("gateway_most_held", "Calls that a gateway may hold (gateway_most_held).", ("gateway",), most)
    answered = [((one.name, status), count) for one in alive for status, count in one.answered.items()]
    yield counter(
        "gateway_answers",
        "Calls that a gateway has answered, by HTTP status.",
        ("gateway", "status"),
        answered,
    )
