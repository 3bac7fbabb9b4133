"""`carpool doctor`: examines what Carpool depends on and explains how to fix problems. It changes and costs nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack

import sqlalchemy as sa
from redis import Redis

from carpool_worker.doctor import databases, redis_server
from carpool_worker.doctor.findings import Finding, Verdict
from carpool_worker.doctor.settings_in_force import examine_settings
from carpool_worker.settings import Settings

__all__ = ["Finding", "Verdict", "examine"]


def examine() -> Generator[Finding, None, None]:
    """Yield each finding as it is made; if a part can't be reached, what depends on it is not examined."""
    findings, settings = examine_settings()
    yield from findings
    if settings is None:
        return
    with ExitStack() as opened:
        server = redis_server.opened(settings)
        if isinstance(server, Redis):
            opened.callback(server.close)
        yield from [server] if isinstance(server, Finding) else redis_server.examine(server)
        engine = databases.opened(settings.database_url)
        if isinstance(engine, sa.Engine):
            opened.callback(engine.dispose)
        yield from [engine] if isinstance(engine, Finding) else databases.examine(engine)
        yield from _rest(
            settings,
            server if isinstance(server, Redis) else None,
            engine if isinstance(engine, sa.Engine) else None,
        )


def _rest(settings: Settings, server: Redis | None, engine: sa.Engine | None) -> Iterator[Finding]:
    # The SDK takes longer to import than all that was examined so far: that is printed by now.
    from carpool_worker.claude.credentials import read_credentials
    from carpool_worker.doctor import (
        api_keys,
        callbacks,
        celery_queues,
        claude_api,
        clocks,
        gateways,
        paused_lanes,
    )

    all_keys, limits = read_credentials(settings.accounts), settings.account_limits
    in_use = [one for one in all_keys if not one.is_retired]
    answers = [claude_api.ask(one) for one in in_use]
    for one, answer in zip(in_use, answers, strict=True):
        yield from claude_api.judge(answer, limits[one.account], one)
    if engine:
        yield from api_keys.examine(engine, all_keys, settings.accounts)
    yield from clocks.examine(server, engine, answers[0])
    if server:
        yield from celery_queues.examine(server, settings)
        yield from gateways.examine(server)
    if engine:
        yield from paused_lanes.examine(engine)
        yield from callbacks.examine(engine, settings)
