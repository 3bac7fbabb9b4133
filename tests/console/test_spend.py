"""The page on what was spent: what its URL asks about, its CSV, and what a tenant sees of it."""

from __future__ import annotations

import html

import pytest
import sqlalchemy as sa
from tests.fixtures.console import Browser, signed_on
from tests.fixtures.ledger import MODEL, given, used

from carpool_worker.operations import keys


def test_the_page_and_its_csv_show_what_the_url_asks_about(
    operator: Browser, console_engine: sa.Engine
) -> None:
    # Given
    given(console_engine, used("books", 3), used("shop <b>", 4, 2), used("books", 8, 20))

    # Then
    shown = operator.get("/spend?since=7d").text
    assert "$7.00" in shown
    assert "$14.00" in shown
    assert "shop &lt;b&gt;" in shown
    assert "<b>" not in shown
    books = operator.get("/spend?since=30d&client=books&by=model").text
    assert "$11.00" in books
    assert "carpool usage --by model,day" in books
    assert "--client books" in books

    csv = operator.get("/spend.csv?since=7d&client=books")
    assert csv.headers["Content-Disposition"].startswith('attachment; filename="carpool-usage-')
    head, *rows = csv.text.splitlines()
    assert head.startswith("day,client,key,model,account,processing,requests")
    assert [row.split(",")[1:6] for row in rows] == [["books", "", MODEL, "default", "batch"]]


def test_the_command_is_quoted_for_a_shell_whoever_wrote_the_link(operator: Browser) -> None:
    shown = html.unescape(operator.get("/spend?client=x%3B+rm+-rf+.").text)

    assert "--client 'x; rm -rf .'" in shown
    assert "--client x;" not in shown


def test_a_tenant_sees_its_own_spend_alone(
    console: str, operator: Browser, console_engine: sa.Engine
) -> None:
    # Given
    given(console_engine, used("tenant", 5), used("neighbour", 6))
    secret = keys.create(console_engine, {"client": "tenant", "scopes": ["usage"]}, actor="test").secret
    tenant = signed_on(console, str(secret))

    # Then
    shown = tenant.get("/spend?since=7d").text
    assert "$5.00" in shown
    assert "neighbour" not in shown
    assert tenant.get("/spend?client=neighbour").status == 404
    rows = tenant.get("/spend.csv").text.splitlines()[1:]
    assert {row.split(",")[1] for row in rows} == {"tenant"}
    assert "neighbour" in operator.get("/spend").text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("by=colour", "by: must be one of client, model, key, account"),
        ("since=soon", "since: must be a day"),
        ("since=2020-01-01", "since: a page shows 366 days at most"),
        ("since=2026-02-02&until=2026-02-01", "since: must not be after until"),
        ("cleint=books", "there is no filter &#39;cleint&#39; here; there are by, since"),
    ],
)
def test_what_the_url_can_not_ask_is_refused_in_a_sentence(operator: Browser, query: str, said: str) -> None:
    answer = operator.get(f"/spend?{query}")
    assert (answer.status, said in answer.text) == (400, True)
