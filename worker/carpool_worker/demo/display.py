"""What the demo shows: requests by state while they are on their way, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Self

import sqlalchemy as sa
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from carpool_worker.demo import queries
from carpool_worker.demo.clients import Client

INBOX, CALLED_BACK = "inbox", "called back"
STAGES = (INBOX, *queries.REQUEST_STAGES, CALLED_BACK)
CLASSES = ("positive", "negative", "neutral")


class Progress:
    """A table of requests by client and state: live on a terminal, else a line whenever something moved."""

    def __init__(self, console: Console, engine: sa.Engine, clients: Sequence[Client]) -> None:
        self._console = console
        self._engine = engine
        self._clients = clients
        self._live = Live(console=console) if console.is_terminal else None
        self._last = ""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        self._engine.dispose()

    def refresh(self) -> None:
        """Show where the requests are now."""
        known = queries.stages(self._engine)
        counts = {client: self._count(client, known.get(client.name, Counter())) for client in self._clients}
        if self._live:
            self._live.update(_table(counts), refresh=True)
        elif (line := _line(counts)) != self._last:
            self._console.print(line)
            self._last = line

    def _count(self, client: Client, known: Counter[str]) -> Counter[str]:
        inbox = len(client.requests) - known.total()
        return Counter({**known, INBOX: inbox, CALLED_BACK: len(client.answers)})


def _table(counts: dict[Client, Counter[str]]) -> Table:
    table = Table(
        "client", "callback", *(Column(stage, justify="right") for stage in STAGES), title="Requests by state"
    )
    for client, found in counts.items():
        table.add_row(client.name, client.way, *(str(found[stage] or "") for stage in STAGES))
    return table


def _line(counts: dict[Client, Counter[str]]) -> str:
    total = sum(counts.values(), Counter[str]())
    return "  " + " · ".join(f"{total[stage]} {stage}" for stage in STAGES if total[stage])


def answers(clients: Sequence[Client]) -> Group:
    """Return what was answered: the reviews by class and client, and one of the summaries."""
    lines = [_verdicts(client) for client in clients if client.classifies]
    summary = next(
        result for client in clients if not client.classifies for result in client.answers.values()
    )
    return Group(*lines, Text(f"{summary.metadata['file']}:"), Text(summary.text or str(summary.error)))


def _verdicts(client: Client) -> Text:
    texts = [result.text.lower() for result in client.answers.values()]
    counts = ", ".join(f"{sum(name in text for text in texts)} {name}" for name in CLASSES)
    return Text(f"{client.name}'s {len(texts)} reviews, by {client.way}: {counts}")


def savings(engine: sa.Engine) -> Table:
    """Return the table of what was done and what it cost; dollars."""
    numbers = ("batches", "requests", "outcomes", "tokens in", "tokens out", "cost", "list price", "saved")
    table = Table("model", *(Column(name, justify="right") for name in numbers), title="What it took")
    rows = queries.used(engine)
    for row in rows:
        table.add_row(*_cells(row), end_section=row is rows[-1])
    table.add_row(*_cells(_sum(rows)), style="bold")
    return table


def _cells(row: queries.Used) -> list[str]:
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in row.outcomes.items())
    counts = [f"{count:,}" for count in (row.input_tokens, row.output_tokens)]
    money = [f"${amount:.4f}" for amount in (row.cost, row.list_price, row.list_price - row.cost)]
    return [row.model, str(row.batches), str(row.requests), outcomes, *counts, *money]


def _sum(rows: Sequence[queries.Used]) -> queries.Used:
    return queries.Used(
        model="all",
        batches=sum(row.batches for row in rows),
        requests=sum(row.requests for row in rows),
        outcomes=sum((Counter(row.outcomes) for row in rows), Counter[str]()),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        cost=sum((row.cost for row in rows), Decimal(0)),
        list_price=sum((row.list_price for row in rows), Decimal(0)),
    )
