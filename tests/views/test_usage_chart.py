"""The picture of what was spent: which bars, lines and words it has, and that it can be drawn."""

from __future__ import annotations

import json
import struct
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.command_line import run, succeeded

from carpool_worker.commands.usage_plot import draw
from carpool_worker.database import now, write
from carpool_worker.exceptions import WorkerError
from carpool_worker.policies.budgets import Budget
from carpool_worker.settings import settings
from carpool_worker.store import usage
from carpool_worker.store.reports.spend import REST
from carpool_worker.store.usage import UsageRow
from carpool_worker.units import DAY, DOLLAR
from carpool_worker.views.forecast import forecast
from carpool_worker.views.usage import UsageView
from carpool_worker.views.usage_chart import MOST_GROUPS, stacks, usage_chart

TODAY = date(2026, 11, 20)


def spent(day: date, cost: str, client: str = "shop", unpriced: int = 0) -> UsageView:
    amount = Decimal(cost)
    return UsageView(
        day=day.isoformat(),
        client=client,
        requests=1 + unpriced,
        unpriced=unpriced,
        cost=amount,
        list_price=2 * amount,
        saved=amount,
    )


def daily(days: int, cost: str = "1") -> list[UsageView]:
    """Return what was spent on so many days, the last of which is today."""
    return [spent(TODAY - timedelta(n), cost) for n in range(days)]


def words(spec: Any) -> str:
    return json.dumps(spec)


def test_days_without_usage_are_drawn_too() -> None:
    rows = [spent(TODAY, "2"), spent(TODAY - timedelta(6), "1")]

    above = usage_chart(rows, TODAY - timedelta(9), TODAY, TODAY)["vconcat"][0]

    listed, cost = (layer["data"]["values"] for layer in above["layer"])
    assert [one["cost"] for one in listed] == [0, 0, 0, 2, 0, 0, 0, 0, 0, 4]
    assert [(one["period"], one["cost"]) for one in cost] == [("2026-11-14", 1), ("2026-11-20", 2)]


def test_many_days_are_drawn_by_month_and_without_a_month_so_far() -> None:
    rows = daily(300)

    spec = usage_chart(rows, TODAY - timedelta(299), TODAY, TODAY, Budget(day=Decimal(3), month=Decimal(40)))

    [above] = spec["vconcat"]
    assert [one["period"] for one in above["layer"][1]["data"]["values"]][-2:] == ["2026-10-01", "2026-11-01"]
    assert [one["cost"] for one in above["layer"][1]["data"]["values"]][-2:] == [31, 20]
    assert "budget: $40.00 a month" in words(spec)
    assert "a day" not in words(spec)


def test_what_was_spent_and_saved_and_where_the_month_goes_is_said() -> None:
    # Given twenty days of a dollar, the last of them today, and a budget for both
    spec = usage_chart(
        daily(20), TODAY.replace(day=1), TODAY, TODAY, Budget(day=Decimal(3), month=Decimal(40))
    )

    # Then it is said in words, and the dashed line ends where the month will
    assert spec["title"]["text"] == "Claude, 1 to 20 November 2026 (UTC)"
    assert spec["title"]["subtitle"] == [
        "$20.00 spent for 20 answers, $20.00 saved (50% of the list price of $40.00); pale: what was saved",
        "This month $20.00 so far of a budget of $40.00; $30.00 by its end, if it goes on like the last week",
    ]
    assert "budget: $3.00 a day" in words(spec["vconcat"][0])
    assert "budget: $40.00 a month" in words(spec["vconcat"][1])
    assert spec["vconcat"][1]["layer"][1]["data"]["values"][-1] == {"day": "2026-11-30", "cost": 30.0}


def test_a_month_that_is_over_has_no_forecast() -> None:
    october = date(2026, 10, 31)
    spec = usage_chart(daily(60), october.replace(day=1), october, TODAY)

    assert spec["vconcat"][1]["title"]["text"] == "October 2026, added up"
    assert len(spec["title"]["subtitle"]) == len(spec["vconcat"][1]["layer"]) == 1


def test_answers_of_unknown_price_are_named() -> None:
    spec = usage_chart([spent(TODAY, "1", unpriced=3)], TODAY, TODAY, TODAY)

    assert "without 3 answers whose price is unknown" in spec["title"]["subtitle"]


def test_there_is_a_colour_for_each_of_the_most_expensive_and_one_for_the_rest() -> None:
    clients = [f"client {n}" for n in range(MOST_GROUPS + 3)]
    rows = [spent(TODAY, str(n + 1), client) for n, client in enumerate(clients)]

    drawn = stacks(rows)
    colours = usage_chart(rows, TODAY, TODAY, TODAY)["vconcat"][0]["layer"][1]["encoding"]["color"]["scale"]

    assert len(drawn) == MOST_GROUPS + 1
    assert drawn[REST] == {TODAY.isoformat(): Decimal(1 + 2 + 3)}
    assert colours["domain"] == list(drawn)
    assert len(set(colours["range"])) == MOST_GROUPS + 1


@pytest.mark.parametrize(
    ("costs", "at_end"),
    [
        ({}, 0),
        ({"2026-11-20": 3}, 3 + 10 * 3),  # the first day ever
        ({"2026-11-18": 4, "2026-11-19": 2, "2026-11-20": 1}, 9 + 10 * 3),  # today as a whole day of three
        ({"2026-10-01": 100, "2026-11-20": 5}, 5),  # nothing in the week before
    ],
)
def test_a_month_goes_on_as_the_week_before_today(costs: dict[str, int], at_end: int) -> None:
    ahead = forecast({day: Decimal(cost) for day, cost in costs.items()}, TODAY)
    assert ahead.at_end == at_end


def test_each_kind_of_file_is_drawn(tmp_path: Path) -> None:
    # Given a client and a budget whose names could be taken for markup, When it is drawn
    rows = [spent(TODAY, "2", "<b>&shop"), spent(TODAY, "1", "$a_b$")]
    spec = usage_chart(rows, TODAY.replace(day=1), TODAY, TODAY, Budget(day=Decimal(3)), dark=True)
    for kind in ("png", "svg", "json"):
        draw(spec, tmp_path / f"out.{kind}")

    # Then a PNG is wide enough for a slide, and an SVG has the words as text, nothing of it cut off
    png = (tmp_path / "out.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">I", png[16:20])[0] > 1_800
    svg = (tmp_path / "out.svg").read_text()
    for said in ("&lt;b&gt;&amp;shop", "$a_b$", "budget: $3.00 a day", "20 Nov", "November 2026 so far"):
        assert said in svg
    assert json.loads((tmp_path / "out.json").read_text())["vconcat"]


def test_nothing_is_drawn_too(tmp_path: Path) -> None:
    draw(usage_chart([], TODAY, TODAY, TODAY), tmp_path / "nothing.svg")
    assert "$0.00 spent for 0 answers" in (tmp_path / "nothing.svg").read_text()


def test_a_file_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"nowhere/out.json: No such file"):
        draw(usage_chart([], TODAY, TODAY, TODAY), tmp_path / "nowhere" / "out.json")


@pytest.mark.usefixtures("command_line")
def test_the_command_draws_the_budget_of_the_only_client(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a client with a budget, and what it used today
    monkeypatch.setenv("CARPOOL_BUDGETS", '{"shop": {"day": 7, "month": 70}}')
    settings.cache_clear()
    day = (date(1970, 1, 1) + timedelta(now() // DAY)).isoformat()
    with write(engine) as connection:
        usage.add(
            connection, [UsageRow(day, "shop", "claude-haiku-4-5", 1, cost=DOLLAR, list_price=2 * DOLLAR)]
        )

    # When it is drawn, Then the picture has its budget, and the file is named on stderr
    path = tmp_path / "out.json"
    ended = run("usage", "--month", "this", "--plot", str(path))
    assert ended.exit_code == 0, ended.output
    assert ended.stderr == f"Drawn: {path}\n"
    assert "budget: $70.00 a month" in path.read_text()
    assert "$1.00 spent for 1 answer, " in path.read_text()

    # When another client is asked for, Then its picture has none
    succeeded("usage", "--client", "other", "--plot", str(path))
    assert "budget" not in path.read_text()
