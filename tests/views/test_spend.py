"""What was spent as a page shows it: its few, its parts, its savings and its pictures."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from tests.fixtures.ledger import TODAY, given, used

from carpool_worker.database import read, write
from carpool_worker.policies.budgets import Budget
from carpool_worker.settings import Settings
from carpool_worker.store import usage
from carpool_worker.store.reports.spend import REST
from carpool_worker.units import DOLLAR
from carpool_worker.views.spend import SpendFilter, SpendView, spent
from carpool_worker.views.spend_charts import days_chart, month_chart
from carpool_worker.views.usage_chart import MOST_GROUPS


def found(engine: sa.Engine, by: str = "client", **wanted: object) -> SpendView:
    chosen = SpendFilter(first=TODAY - timedelta(6), last=TODAY, **wanted)  # type: ignore[arg-type]
    settings = Settings.model_construct(budgets={"default": Budget(month=Decimal(50))})
    with read(engine) as connection:
        return spent(connection, settings, chosen, by, TODAY)


def test_the_most_expensive_are_named_and_the_others_are_one(engine: sa.Engine) -> None:
    # Given twelve clients, one of them in real time too, and rows that are rolled up as well as entries that are not
    given(engine, *(used(f"c{number:02}", number, number % 7) for number in range(1, 13)))
    with write(engine) as connection:
        usage.roll_up(connection)
    given(engine, used("c12", 3, processing="real_time", list_price=3 * DOLLAR))

    # When
    view = found(engine)

    # Then
    assert [row.client for row in view.top] == [f"c{number:02}" for number in range(12, 2, -1)]
    assert view.total.cost == 81
    assert view.in_batch.cost == 78
    assert view.real_time.cost == 3
    assert view.real_time.saved == 0
    assert {row.client for row in view.days} == {REST, *(f"c{number:02}" for number in range(5, 13))}
    assert sum(row.cost or 0 for row in view.days if row.client == REST) == 1 + 2 + 3 + 4

    wanted = SpendFilter(first=TODAY - timedelta(6), last=TODAY)
    for theme, other in (("light", "dark"), ("dark", "light")):
        chart = days_chart(view, wanted)[theme]
        colours = chart["layer"][1]["encoding"]["color"]["scale"]
        assert len(colours["domain"]) == MOST_GROUPS + 1
        assert colours["domain"][-1] == REST
        assert (
            colours["range"][-1]
            != days_chart(view, wanted)[other]["layer"][1]["encoding"]["color"]["scale"]["range"][-1]
        )
    assert month_chart(view, wanted)["light"]["width"] == "container"


def test_names_choose_a_part_of_the_ledger_and_its_budget(engine: sa.Engine) -> None:
    given(
        engine,
        used("books", 1, account="eu", gateway_key="nightly"),
        used("books", 2),
        used("shop", 4, account="eu"),
    )

    assert found(engine, client="books").total.cost == 3
    assert found(engine, account="eu").total.cost == 5
    assert found(engine, account="default").total.cost == 2
    assert found(engine, key="nightly").total.cost == 1
    assert found(engine, model="m").total.requests == 0
    assert {row.key: row.cost for row in found(engine, by="key").top} == {"(no key)": 6, "nightly": 1}
    assert {row.account: row.cost for row in found(engine, by="account").top} == {"eu": 5, "default": 2}
    own = found(engine, client="books").budget
    assert own is not None
    assert own.month == 50
    assert found(engine).budget is None


def test_what_the_cache_saved_counts_its_writes_against_its_reads(engine: sa.Engine) -> None:
    # Given
    given(engine, used("books", 1, cache_read_tokens=900_000, cache_write_tokens=100_000))

    # Then: in a batch a token of the prompt costs 0.50, one read 0.05 and one written for an hour 1.00 a million
    cache = found(engine).cache
    assert cache.saved == Decimal("0.9") * Decimal("0.45") - Decimal("0.1") * Decimal("0.5")
    assert cache.hit_rate == pytest.approx(900_000 / 1_001_000)

    # And writes that nothing reads cost more than they save
    given(engine, used("books", 1, cache_write_tokens=1_000_000))
    less = found(engine).cache.saved
    assert less is not None
    assert less < 0
