"""Examines the gateways, where there are any: whether one died, and whether they have room for more calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import redis

from carpool_worker.doctor.findings import Finding, ok, warning
from carpool_worker.formatting import counted
from carpool_worker.views.gateways import GatewayView, read_gateways

CHECK = "gateway"

NEARLY_FULL = 0.8


def examine(server: redis.Redis) -> Iterator[Finding]:
    """Ask Redis which gateways there are, and judge them."""
    yield from judge(read_gateways(server))


def judge(gateways: Sequence[GatewayView]) -> Iterator[Finding]:
    """Judge the gateways."""
    alive = [one for one in gateways if one.is_alive]
    if died := len(gateways) - len(alive):
        what = f"gateways that died in the last hour, without a SIGTERM: {died}"
        yield warning(CHECK, what, "look at their logs; their calls' retries are adopted by the others")
    if not alive:
        return
    held, most = sum(one.held for one in alive), sum(one.most_held for one in alive)
    what = f"{len(alive)} running; {held:,} of {counted(most, 'call is', 'calls are')} held"
    if held >= NEARLY_FULL * most:
        mend = "start another one, or raise gateway_most_held: beyond it calls are answered with 529"
        yield warning(CHECK, what, mend)
    else:
        yield ok(CHECK, what)
