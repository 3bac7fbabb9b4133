"""`carpool usage`: the ledger by client, model and day, to the cent what the simulator billed."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import Carpool, request
from tests.fixtures.command_line import rows as lines_of
from tests.fixtures.command_line import run
from typer.testing import CliRunner

from carpool import Producer
from carpool_worker.cli import app
from carpool_worker.commands.times import day_of, days_of_month
from carpool_worker.database import read, write
from carpool_worker.exceptions import WorkerError
from carpool_worker.money.costs import Tokens, price_of
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.store import usage
from carpool_worker.store.usage import UsageRow
from carpool_worker.views.usage import UsageView, records, to_csv, usage_view
from carpool_worker.views.usage_chart import stacks

pytestmark = pytest.mark.usefixtures("command_line")

TOKENS = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")
KEYS = ("client", "model", "requests", *TOKENS, "cost", "list_price", "saved")
BATCH_PRICES = {  # dollars per million tokens by the price list: input, output, cache read, cache write for an hour
    "claude-haiku-4-5": ("0.50", "2.50", "0.05", "1.00"),
    "claude-opus-5-5": ("2", "10", "0.10", "4"),
    "claude-sonnet-4-5": ("1.50", "7.50", "0.15", "3.00"),
}
TODAY = datetime.now(UTC).date()


def with_shared_prompt(text: str, model: str) -> dict[str, Any]:
    block = {"type": "text", "text": "Be brief. " * 800, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    return request(text, model) | {"system": [block]}


def used(back: int, client: str, model: str, answers: int = 1, tokens: Tokens | None = None) -> UsageRow:
    """Return what a client used so many days ago."""
    day = TODAY - timedelta(back)
    tokens = tokens or Tokens(input_tokens=1_000, output_tokens=100)
    row = UsageRow(day.isoformat(), client, model)
    for _ in range(answers):
        row.add(tokens, price_of(tokens, model, day))
    return row


def totals(engine: sa.Engine, *by: str, **limits: Any) -> list[UsageRow]:
    with read(engine) as connection:
        return usage.totals(connection, by, **limits)


def keep(engine: sa.Engine, *rows: UsageRow) -> None:
    with write(engine) as connection:
        usage.add(connection, rows)


def test_the_sums_are_to_the_last_digit_what_the_simulator_billed(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given three models, prompts that are cached, and requests that fail, expire and run again
    simulator.script(
        Script(contains="flaky", outcome="errored", error_type="overloaded_error", times=1),
        Script(contains="late", outcome="expired", times=1),
        Script(contains="wrong", outcome="errored", error_type="invalid_request_error"),
    )
    for model in BATCH_PRICES:
        words = ("fine", "flaky", "late", "wrong")
        producer.enqueue_many([with_shared_prompt(f"{word} {n}", model) for n in range(3) for word in words])
        producer.enqueue_many([request(f"{word} {n}", model) for n in range(2) for word in words])

    carpool.until(lambda: carpool.ended(60))

    # Then each model's row is what its ledger says, at the prices of the documentation
    rows = records(list(map(usage_view, totals(carpool.engine, "client", "model"))), ["client", "model"])
    assert {tuple(row) for row in rows} == {KEYS}
    ledger = simulator.ledger()["tokens_by_model"]
    for row in rows:
        billed = ledger[row["model"]]
        kinds = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        counts = [billed[kind] for kind in kinds]
        assert all(counts)
        rates = map(Decimal, BATCH_PRICES[row["model"]])
        cost = sum(rate * count for rate, count in zip(rates, counts, strict=True)) / 1_000_000
        assert [row[key] for key in KEYS[3:5]] == counts[:2]
        assert (row["cache_read_tokens"], row["cache_write_tokens"]) == (counts[2], counts[3])
        assert (row["cost"], row["saved"], row["list_price"]) == (cost, cost, 2 * cost)
    assert sum(row["requests"] for row in rows) == simulator.ledger()["billed"] == 45


def test_rows_are_summed_by_what_is_asked_and_limited_by_day_and_client(engine: sa.Engine) -> None:
    haiku, opus = "claude-haiku-4-5", "claude-opus-5"
    keep(engine, used(0, "a", haiku), used(0, "b", haiku), used(1, "a", opus), used(8, "a", haiku))
    ago = [(TODAY - timedelta(back)).isoformat() for back in range(9)]

    assert [(row.model, row.requests) for row in totals(engine, "model")] == [(opus, 1), (haiku, 3)]
    assert [row.day for row in totals(engine, "day")] == [ago[8], ago[1], ago[0]]
    assert [row.model for row in totals(engine, "model", since=ago[7], client="a")] == [opus, haiku]
    assert [row.requests for row in totals(engine, "client", since=ago[1], until=ago[1])] == [1]
    assert totals(engine, "client", since=ago[7], until=ago[2]) == []


def test_usage_is_summed_by_key_and_limited_to_one(engine: sa.Engine) -> None:
    haiku = "claude-haiku-4-5"
    rows = [used(0, "a", haiku), used(0, "a", haiku, 2), used(1, "b", haiku, 3)]
    for row, key in zip(rows, ("nightly", "", "daily"), strict=True):
        row.gateway_key = key
    keep(engine, *rows)

    shown = lines_of("usage", "--by", "key,client")
    of_one = lines_of("usage", "--by", "day,key", "--key", "nightly")

    assert [(row["key"], row["client"], row["requests"]) for row in shown] == [
        ("daily", "b", 3),
        ("", "a", 2),
        ("nightly", "a", 1),
    ]
    assert [(row["day"], row["key"], row["requests"]) for row in of_one] == [
        (TODAY.isoformat(), "nightly", 1)
    ]
    assert [row.requests for row in totals(engine, "client", key="")] == [2]
    assert stacks([usage_view(rows[0])]).keys() == {"a · nightly · claude-haiku-4-5"}


def test_what_has_no_price_is_counted_and_is_never_zero(engine: sa.Engine) -> None:
    keep(engine, used(0, "a", "claude-unheard-of", 3), used(0, "a", "claude-haiku-4-5", 2))

    by_model = lines_of("usage", "--by", "model")
    [together] = totals(engine, "client")

    assert [(row["requests"], row["cost"], row["saved"]) for row in by_model] == [
        (2, "0.0015", "0.0015"),
        (3, None, None),
    ]
    assert (together.requests, together.unpriced, together.is_priced) == (5, 3, True)


def test_the_command_prints_a_table_of_80_columns_csv_or_json(engine: sa.Engine) -> None:
    # Given a client of a long name that looks like markup, and a model without a price
    client = "[red]the-indexer-of-the-other-team"
    cached = Tokens(input_tokens=2_000_000, output_tokens=10**6, cache_read_input_tokens=10**6)
    keep(engine, used(0, client, "claude-opus-5", 2, cached), used(1, "b", "claude-unheard-of"))

    table, lines = run("usage"), run("usage", "--csv", "--by", "day,model")
    listed = run("usage", "--json", "--since", TODAY.isoformat())

    # Then every line fits, nothing is left out, and what has no price is named on stderr
    assert table.exit_code == 0
    assert max(map(len, table.stdout.splitlines())) <= 80
    printed = table.stdout.splitlines()
    names = printed[2].index("requests")
    assert client in "".join(line[:names].strip() for line in printed[3:])
    assert "$35.50" in table.stdout  # 2 × (2 × $2.50 + $12.50 + $0.25)
    assert "unknown" in table.stdout
    assert table.stderr == "No price is known for 1 request (claude-unheard-of): no sum contains them.\n"
    rows = list(csv.DictReader(lines.stdout.splitlines()))
    assert [(row["day"], row["cost"]) for row in rows][-1] == (TODAY.isoformat(), "35.5")
    assert rows[0]["cost"] == ""
    assert [(row["client"], row["cost"]) for row in map(json.loads, listed.stdout.splitlines())] == [
        (client, "35.5")
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--by", "client,colour"), "colour"),
        (("--by", "day,day"), "day,day"),
        (("--since", "yesterday"), "yesterday"),
        (("--csv", "--json"), "--csv"),
        (("--decimal-comma",), "--csv"),
        (("--month", "november"), "--month november: write 2026-11, this or last"),
        (("--month", "this", "--since", "7d"), "--month can't be combined"),
        (("--plot", "out.zip"), "--plot out.zip: the name must end in .png"),
    ],
)
def test_a_wrong_option_is_one_line(arguments: tuple[str, ...], reason: str) -> None:
    refused = CliRunner().invoke(app, ["usage", *arguments])

    assert refused.exit_code == 1
    assert reason in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_days_are_written_as_dates_or_as_so_long_ago() -> None:
    at = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)

    days = [day_of("--since", written, at) for written in ("2026-11-01", "today", "2h", "7d", "2w")]

    assert days == ["2026-11-01", "2026-11-22", "2026-11-21", "2026-11-15", "2026-11-08"]
    with pytest.raises(WorkerError, match="--since 2026-02-30"):
        day_of("--since", "2026-02-30", at)


def test_a_month_is_named_or_this_or_the_last() -> None:
    at = datetime(2028, 3, 1, 1, 30, tzinfo=UTC)

    months = [days_of_month("--month", written, at) for written in ("2026-11", "this", "last")]

    assert months == [
        ("2026-11-01", "2026-11-30"),
        ("2028-03-01", "2028-03-31"),
        ("2028-02-01", "2028-02-29"),
    ]


def test_a_whole_month_is_summed(engine: sa.Engine) -> None:
    keep(engine, used(0, "a", "claude-haiku-4-5"), used(TODAY.day, "a", "claude-haiku-4-5", 2))

    this, last = (lines_of("usage", "--by", "client", "--month", month) for month in ("this", "last"))

    assert ([row["requests"] for row in this], [row["requests"] for row in last]) == ([1], [2])


def test_a_spreadsheet_opens_the_csv_right() -> None:
    # Given a client whose name looks like a formula, and a model of an unknown price
    rows = [
        UsageView(client="-1", model="=cmd()", requests=1_000, cost=Decimal("1234.5"), saved=Decimal("1e-7")),
        UsageView(client="b", model="claude-unheard-of", requests=1),
    ]

    # Then no cell is a formula, no number has an exponent, and lines end as RFC 4180 says
    [names, first, second, rest] = to_csv(rows, ["client", "model"]).split("\r\n")
    assert names.startswith("client,model,requests,")
    assert first == "'-1,'=cmd(),1000,0,0,0,0,1234.5,,0.0000001"
    assert (second, rest) == ("b,claude-unheard-of,1,0,0,0,0,,,", "")

    # And where a comma begins the decimals, a semicolon ends the cell
    [_, first, *_] = to_csv(rows, ["client"], decimal_comma=True).split("\r\n")
    assert first == "'-1;1000;0;0;0;0;1234,5;;0,0000001"
