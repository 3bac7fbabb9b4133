"""The tab Batches as a tenant has it: the batches that it made at the gateway, and nobody else's."""

from __future__ import annotations

from decimal import Decimal

import pytest
import sqlalchemy as sa
from tests.fixtures.console import Browser, signed_on

from carpool_worker.console.pages import own_batches
from carpool_worker.database import now, write
from carpool_worker.models import ClientBatch
from carpool_worker.operations import keys
from carpool_worker.policies.client_batches import shown_id
from carpool_worker.store.client_batches import rows
from carpool_worker.units import DAY, HOUR

MINE, THEIRS = (shown_id(f"{n:032x}") for n in (1, 9))


def made(engine: sa.Engine, number: int, client: str, *, processing: int = 0) -> str:
    """Insert a batch of ten requests, of which so many have not ended; return the id that its client knows."""
    at, id_ = now() - 2 * HOUR, f"{number:032x}"
    batch = ClientBatch(
        id=id_,
        client=client,
        created_at=at,
        expires_at=at + DAY,
        ended_at=None if processing else at + HOUR,
        request_count=10,
        processing=processing,
        succeeded=9 - processing,
        errored=1,
        cost=Decimal("0.0421"),
        list_price=Decimal("0.0842"),
        gateway_key="nightly",
        digest=b"",
    )
    with write(engine) as connection:
        rows.insert(connection, batch)
    return shown_id(id_)


@pytest.fixture(scope="module")
def tenant(console: str, console_engine: sa.Engine) -> Browser:
    """Somebody with a key of the client shop, which has three batches; books has one."""
    for number in (1, 2, 3):
        made(console_engine, number, "shop", processing=4 if number == 3 else 0)
    made(console_engine, 9, "books")
    terms = {"name": "shops", "client": "shop", "scopes": ["usage"]}
    secret = keys.create(console_engine, terms, actor="test").secret
    assert secret
    return signed_on(console, secret)


def test_a_tenant_sees_its_own_batches_with_counts_times_and_cost(tenant: Browser) -> None:
    page = tenant.get("/batches").text

    assert 'href="/batches"' in page
    assert page.index(shown_id(f"{3:032x}")) < page.index(MINE)  # newest first
    assert "5 succeeded, 1 errored" in page
    assert "9 succeeded, 1 errored" in page
    assert "$0.0421" in page
    assert THEIRS not in page


def test_a_batch_of_its_own_has_a_page(tenant: Browser) -> None:
    page = tenant.get(f"/batches/{MINE}")

    assert page.status == 200
    assert "10, of which 0 have not ended" in page.text
    assert "with the key nightly" in page.text
    assert "after 60 min" in page.text or "after 1 h" in page.text
    assert "at list price" in page.text


def test_what_is_somebody_elses_or_anthropics_is_not_there(tenant: Browser) -> None:
    for named in (THEIRS, "msgbatch_01abc", f"{1:032x}", "0"):
        page = tenant.get(f"/batches/{named}")
        assert (page.status, f"there is no batch {named}" in page.text) == (404, True)
    assert tenant.get("/batches?before=1").status == 404
    assert tenant.get("/batches?model=claude-haiku-4-5").status == 400
    for act in ("cancel", "resolve", "results"):
        assert tenant.post(f"/batches/{MINE}/{act}", {}).status == 404


def test_its_list_is_walked_there_and_back(tenant: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_batches, "LIMIT", 2)
    first = tenant.get("/batches?after=").text

    assert "Older" in first
    assert MINE not in first
    older = tenant.get(f"/batches?before={shown_id(f'{2:032x}')}").text
    assert MINE in older
    assert "Older" not in older
    newer = tenant.get(f"/batches?after={MINE}").text
    assert newer.count('class="mono"') == 2
    assert MINE not in newer
