"""Each panel of the dashboard, evaluated by a real Prometheus on made-up series; `make prometheus` runs this."""

from __future__ import annotations

import json
import math
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import free_port
from tests.fixtures.waiting import until

DASHBOARD = Path(__file__).parents[2] / "config" / "grafana" / "carpool.json"
BEGIN = 1_790_000_000
"""Seconds since the epoch: where the series begin; they have a sample a minute for three hours."""

MINUTES = 180
NOW = BEGIN + MINUTES * 60
SELECTOR = re.compile(r"\b(carpool_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|on) \(?\(([^)]*)\)|\bon\(([^)]*)\)")
MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')

MONEY = {
    ("cost", "day", "shop"): "1.2300001",
    ("cost", "day", "support"): "4.5600002",
    ("cost", "month", "shop"): "11.2300001",
    ("cost", "month", "support"): "14.5600002",
    ("saved", "month", "shop"): "11.2300001",
    ("saved", "month", "support"): "14.5600002",
}
"""Dollars by what, period and client, which appear with the last two samples only, as after a start."""


def panels() -> list[tuple[str, str]]:
    """Return each panel's title with each of its expressions."""
    found = json.loads(DASHBOARD.read_text().replace("$__rate_interval", "5m"))["panels"]
    return [(panel["title"], target["expr"]) for panel in found for target in panel.get("targets", [])]


def series() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return names and labels of series such that every selector of the dashboard finds one."""
    found = set()
    for _, expression in panels():
        grouped = [name.strip() for by in GROUPING.findall(expression) for name in "".join(by).split(",")]
        for name, matchers in SELECTOR.findall(expression):
            if name.startswith("carpool_period_"):
                continue
            labels = {label: "some" for label in grouped if label not in ("", "le")}
            for label, how, value in MATCHER.findall(matchers):
                labels[label] = "some" if how == "!=" else value.split("|")[0]
            if name.endswith("_bucket"):
                found |= {(name, tuple(sorted({**labels, "le": le}.items()))) for le in ("600.0", "+Inf")}
            else:
                found.add((name, tuple(sorted(labels.items()))))
    return found


def open_metrics() -> str:
    """Return the series in the text form that promtool imports: each grows by one a minute."""
    lines = []
    for name, labels in sorted(series()):
        written = ",".join(f'{label}="{value}"' for label, value in labels)
        lines += [f"{name}{{{written}}} {n + 1} {BEGIN + 60 * n}" for n in range(MINUTES + 1)]
    for (what, period, client), dollars in MONEY.items():
        written = f'period="{period}",client="{client}",model="claude-haiku-4-5"'
        lines += [
            f"carpool_period_{what}_dollars{{{written}}} {dollars} {BEGIN + 60 * n}"
            for n in (MINUTES - 1, MINUTES)
        ]
    return "\n".join([*lines, "# EOF\n"])


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Run a Prometheus that has the series, and yield its URL."""
    (folder / "series.txt").write_text(open_metrics())
    (folder / "prometheus.yml").write_text("global: {}\n")
    blocks = ["tsdb", "create-blocks-from", "openmetrics", str(folder / "series.txt"), str(folder / "data")]
    subprocess.run(["promtool", *blocks], check=True, capture_output=True)
    address = f"127.0.0.1:{free_port()}"
    options = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "storage.tsdb.retention.time": "100y",
        "web.listen-address": address,
    }
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: is_ready(f"http://{address}/-/ready"), 60, progress=(folder / "log").read_text)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def evaluate(url: str, expression: str, at: int = NOW) -> dict[str, float]:
    """Return the values of an expression by their labels."""
    query = urllib.parse.urlencode({"query": expression, "time": at})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=30) as answer:
        result: list[Any] = json.load(answer)["data"]["result"]
    return {json.dumps(one["metric"], sort_keys=True): float(one["value"][1]) for one in result}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prometheus(tmp_path_factory.mktemp("prometheus")) as there:
        yield there


def test_every_panel_shows_numbers(url: str) -> None:
    empty = []
    for title, expression in panels():
        values = evaluate(url, expression)
        if not values or any(math.isnan(value) for value in values.values()):
            empty.append((title, expression, values))
    assert empty == []


def test_money_is_right_to_the_cent_also_where_series_have_just_begun(url: str) -> None:
    # Given clients whose first sample is a minute old, Then what they have spent is whole
    by_title = dict(panels())
    assert evaluate(url, by_title["Spent today"]) == {"{}": pytest.approx(5.7900003, abs=1e-9)}
    assert evaluate(url, by_title["Spent this month"]) == {"{}": pytest.approx(25.7900003, abs=1e-9)}
    assert evaluate(url, by_title["Saved this month"]) == {"{}": pytest.approx(25.7900003, abs=1e-9)}
    assert evaluate(url, by_title["Spent on this day so far (UTC), by client"]) == {
        '{"client": "shop"}': pytest.approx(1.2300001, abs=1e-9),
        '{"client": "support"}': pytest.approx(4.5600002, abs=1e-9),
    }

    # And before anything was spent, it reads as nothing, not as no data
    assert evaluate(url, by_title["Spent today"], BEGIN) == {"{}": 0}
