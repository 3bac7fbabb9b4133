"""Health: what the doctor finds, who is alive, what could not be read, and what was done here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from aiohttp import web
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from carpool import __version__
from carpool_worker import doctor
from carpool_worker.console.filters import check_known
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter
from carpool_worker.console.state import Console
from carpool_worker.doctor import Finding
from carpool_worker.views import audit, quarantine
from carpool_worker.views.gateways import GatewayView, read_gateways
from carpool_worker.views.quarantine import EntryView
from carpool_worker.views.vitals import Vitals, read_vitals
from carpool_worker.views.workers import WorkerView, read_workers

DOCTOR_SECONDS = 300.0
ALIVE_SECONDS = 30.0
AUDIT_SECONDS = 30.0
"""How old each may be that is shown; the doctor asks the API, which costs nothing, and takes seconds."""

MOST_QUARANTINED = 20
MOST_ENTRIES = 50

ENTRY = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Alive:
    """Who answers; `error` is why nobody could be asked."""

    vitals: Vitals
    workers: Sequence[WorkerView] = ()
    gateways: Sequence[GatewayView] = ()
    quarantined: Sequence[EntryView] = ()

    @property
    def queues(self) -> list[str]:
        """The queues that anybody reads."""
        return sorted({queue for worker in self.workers for queue in worker.queues})


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with the page."""
    console, after = page.console, page.query.get("after")
    check_known(page.query, ("after",))
    if after is not None and not ENTRY.fullmatch(after):
        raise BadFilter("after: must be the id of an entry of the audit log")

    async def read_doctor() -> list[Finding]:
        return await console.run(lambda: list(doctor.examine()))

    async def read_alive() -> Alive:
        return await console.run(lambda: _alive(console))

    async def read_audit() -> Sequence[audit.AuditView]:
        return await console.read(lambda connection: audit.newest(connection, MOST_ENTRIES + 1, after))

    entries = await page.cached(("audit", after), AUDIT_SECONDS, read_audit)
    return page.draw(
        "health.html",
        findings=await page.at_once("doctor", DOCTOR_SECONDS, read_doctor),
        alive=await page.at_once("alive", ALIVE_SECONDS, read_alive),
        entries=entries[:MOST_ENTRIES],
        after=entries[MOST_ENTRIES - 1].id if len(entries) > MOST_ENTRIES else None,
        version=__version__,
    )


def _alive(console: Console) -> Alive:
    server = console.server
    try:
        return Alive(
            read_vitals(server),
            read_workers(console.settings),
            read_gateways(server),
            list(islice(quarantine.entries(server), MOST_QUARANTINED)),
        )
    except (RedisError, BrokerError, OSError) as error:
        return Alive(Vitals(error=str(error).partition("\n")[0]))
