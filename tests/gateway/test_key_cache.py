"""The keys that a gateway's process knows: looked up again in time, and never wrong for long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from carpool_worker.database import open_engine, read
from carpool_worker.gateway.key_cache import FRESH_SECONDS, KeyCache
from carpool_worker.operations import keys as operation
from carpool_worker.policies.keys import new_secret
from carpool_worker.store import gateway_keys


@pytest.fixture
def queries(engine: sa.Engine) -> Iterator[list[str]]:
    """The statements that the engine ran."""
    ran: list[str] = []

    def record(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith(("SELECT gateway_keys", "UPDATE gateway_keys")):
            ran.append(statement[:6])

    sa.event.listen(engine, "before_cursor_execute", record)
    yield ran
    sa.event.remove(engine, "before_cursor_execute", record)


def created(engine: sa.Engine, **given: object) -> str:
    secret = operation.create(engine, {"client": "billing"} | given, actor="tests").secret
    assert secret is not None
    return secret


def test_many_calls_with_a_key_are_one_query_and_one_record_of_its_use(
    engine: sa.Engine, queries: list[str]
) -> None:
    async def calls() -> list[object]:
        cache = KeyCache(engine)
        together = await asyncio.gather(*(cache.find(secret) for _ in range(50)))
        one = await cache.find(secret)
        await cache.close()
        return [*together, one]

    secret = created(engine)
    queries.clear()

    found = asyncio.run(calls())

    assert len(found) == 51
    assert None not in found
    assert sorted(queries) == ["SELECT", "UPDATE"]
    with read(engine) as connection:
        [key] = gateway_keys.load(connection)
    assert key.first_used_at is not None


def test_a_key_that_is_revoked_or_rotated_is_refused_once_what_is_known_is_old(engine: sa.Engine) -> None:
    async def calls() -> list[bool]:
        cache = KeyCache(engine, fresh_seconds=0)
        known = [await cache.find(secret) is not None]
        new = operation.rotate(engine, "billing", 0, actor="tests").secret
        assert new is not None
        known += [await cache.find(one) is not None for one in (secret, new)]
        operation.revoke(engine, "billing", actor="tests")
        known.append(await cache.find(new) is not None)
        await cache.close()
        return known

    secret = created(engine)

    assert asyncio.run(calls()) == [True, False, True, False]
    assert FRESH_SECONDS <= 4  # with the query, within 5 seconds


def test_a_typo_asks_nothing_and_a_strangers_secret_is_no_key(engine: sa.Engine, queries: list[str]) -> None:
    async def calls() -> list[object]:
        cache = KeyCache(engine)
        return [await cache.find(secret) for secret in (*typos, stranger, stranger)]

    secret, stranger = created(engine), new_secret()
    typos = ("", "sk-ant-1", secret[:-1], secret.lower(), f"{secret} ")
    queries.clear()

    assert asyncio.run(calls()) == [None] * 7
    assert queries == ["SELECT"]


def test_an_expired_key_is_refused_though_it_is_known(engine: sa.Engine) -> None:
    async def calls() -> object:
        cache = KeyCache(engine)
        return await cache.find(secret)

    secret = created(engine, expires_at="2020-01-01T00:00:00Z")

    assert asyncio.run(calls()) is None


def test_without_the_database_nothing_old_is_believed() -> None:
    async def calls() -> None:
        cache = KeyCache(away)
        with pytest.raises(sa.exc.OperationalError):
            await cache.find(new_secret())

    away = open_engine("postgresql://127.0.0.1:1/none")

    asyncio.run(calls())
