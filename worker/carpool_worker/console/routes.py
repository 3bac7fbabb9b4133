"""Every page of the console, in one table; the order is the navigation's."""

from __future__ import annotations

from typing import NamedTuple

from carpool_worker.console import live
from carpool_worker.console.page_calls import Answering, Tab
from carpool_worker.console.pages import (
    batch_acts,
    batches,
    clients,
    deliveries,
    delivery_acts,
    error_retries,
    errors,
    health,
    key_acts,
    lane_acts,
    lanes,
    overview,
    request_acts,
    requests,
    spend,
    try_it,
)
from carpool_worker.console.users import Role


class PageRoute(NamedTuple):
    """A page, or something that a page asks for or does; it belongs to a tab of the navigation."""

    method: str
    path: str
    answer: Answering
    tab: Tab
    role: Role | None = None  # None: LOOK for a GET, ACT for a POST
    operators_only: bool = False  # though tenants have its tab

    @property
    def needs(self) -> Role:
        """What whoever asks must be allowed to."""
        return self.role or (Role.LOOK if self.method == "GET" else Role.ACT)


OVERVIEW = Tab("/", "Overview")
BATCHES = Tab("/batches", "Batches", tenants=True)
REQUESTS = Tab("/requests", "Requests", tenants=True)
ERRORS = Tab("/errors", "Errors")
DELIVERIES = Tab("/deliveries", "Deliveries", tenants=True)
SPEND = Tab("/spend", "Spend", tenants=True)
CLIENTS = Tab("/clients", "Clients and keys", tenants=True)
LANES = Tab("/lanes", "Lanes and limits")
TRY_IT = Tab("/try", "Try it", simulator=True)
HEALTH = Tab("/health", "Health")

ROUTES: tuple[PageRoute, ...] = (
    PageRoute("GET", "/", overview.show, OVERVIEW),
    PageRoute("GET", "/batches", batches.show, BATCHES),
    PageRoute("GET", "/batches/{id}", batches.show_one, BATCHES),
    PageRoute("POST", "/batches/{id}/cancel", batch_acts.cancel_all, BATCHES, operators_only=True),
    PageRoute("POST", "/batches/{id}/resolve", batch_acts.settle, BATCHES, operators_only=True),
    PageRoute("POST", "/batches/{id}/results", batch_acts.results, BATCHES, Role.REVEAL, operators_only=True),
    PageRoute("GET", "/requests", requests.show, REQUESTS),
    PageRoute("GET", "/requests/{id}", requests.show_one, REQUESTS),
    PageRoute("POST", "/requests/{id}/cancel", request_acts.cancel, REQUESTS),
    PageRoute("POST", "/requests/{id}/retry", request_acts.retry_one, REQUESTS),
    PageRoute("POST", "/requests/{id}/replay", request_acts.deliver_again, REQUESTS),
    PageRoute("POST", "/requests/{id}/reveal", request_acts.reveal, REQUESTS, Role.REVEAL),
    PageRoute("GET", "/errors", errors.show, ERRORS),
    PageRoute("GET", "/errors/retry", error_retries.ask, ERRORS, Role.ACT),
    PageRoute("POST", "/errors/retry", error_retries.do, ERRORS),
    PageRoute("GET", "/deliveries", deliveries.show, DELIVERIES),
    PageRoute("POST", "/deliveries/stop", delivery_acts.stop, DELIVERIES),
    PageRoute("POST", "/deliveries/start", delivery_acts.start, DELIVERIES),
    PageRoute("POST", "/deliveries/replay", delivery_acts.replay_since, DELIVERIES),
    PageRoute("POST", "/deliveries/replay-all", delivery_acts.replay_all, DELIVERIES, operators_only=True),
    PageRoute("POST", "/deliveries/sample", delivery_acts.send_sample, DELIVERIES),
    PageRoute("GET", "/spend", spend.show, SPEND),
    PageRoute("GET", "/spend.csv", spend.download, SPEND),
    PageRoute("GET", "/clients", clients.show_all, CLIENTS),
    PageRoute("GET", "/clients/{client}", clients.show, CLIENTS),
    PageRoute("POST", "/keys/create", key_acts.create, CLIENTS, Role.ADMIN),
    PageRoute("POST", "/keys/rotate", key_acts.rotate, CLIENTS, Role.ADMIN),
    PageRoute("POST", "/keys/revoke", key_acts.revoke, CLIENTS, Role.ADMIN),
    PageRoute("GET", "/lanes", lanes.show, LANES),
    PageRoute("POST", "/lanes/pause", lane_acts.pause, LANES),
    PageRoute("POST", "/lanes/resume", lane_acts.resume, LANES),
    PageRoute("GET", "/try", try_it.show, TRY_IT),
    PageRoute("POST", "/try", try_it.enqueue, TRY_IT),
    PageRoute("POST", "/try/webhook", try_it.webhook, TRY_IT, Role.REVEAL),
    PageRoute("POST", "/try/arm", try_it.arm, TRY_IT),
    PageRoute("POST", "/try/disarm", try_it.disarm, TRY_IT),
    PageRoute("GET", "/health", health.show, HEALTH),
)

LIVE = PageRoute("GET", "/live", live.follow, Tab("/live", "Live", tenants=True))
"""What tells pages that something has changed; it is no page itself."""

TABS: tuple[Tab, ...] = tuple(dict.fromkeys(route.tab for route in ROUTES))
