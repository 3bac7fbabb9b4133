"""What the demo displays: requests by state while they are processed, then the answers and what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Self

import sqlalchemy as sa
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from carpool_worker.demo import queries
from carpool_worker.demo.clients import Client
from carpool_worker.formatting import dollars

INBOX, CALLED_BACK = "inbox", "called back"
STAGES = (INBOX, *queries.REQUEST_STAGES, CALLED_BACK)
FACTS = ("batches", "requests", "outcomes", "tokens in", "tokens out", "cost", "list price", "saved")
CLASSES = ("positive", "negative", "neutral")


class Progress:
    """A table of requests by client and state: live on a terminal, else a line whenever something has changed."""

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
        """Update the display."""
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
    table = Table(title="Requests by state")
    table.add_column("")
    for client in counts:
        table.add_column(f"{client.name}\n{client.way}", justify="right")
    for stage in STAGES:
        table.add_row(stage, *(str(found[stage] or "") for found in counts.values()))
    return table


def _line(counts: dict[Client, Counter[str]]) -> str:
    total = sum(counts.values(), Counter[str]())
    return "  " + " · ".join(f"{total[stage]} {stage}" for stage in STAGES if total[stage])


def answers(clients: Sequence[Client]) -> Group:
    """Return the answers: the reviews by client and class, and one of the summaries."""
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
    """Return the table of what was done and what it cost, a column for each model."""
    models = queries.used(engine)
    columns = [*models, _sum(models)]
    table = Table(title="What it took")
    table.add_column("")
    for column in columns:
        table.add_column(column.model, justify="right")
    for name, *cells in zip(FACTS, *map(_cells, columns), strict=True):
        table.add_row(name, *cells, style="bold" if name == FACTS[-1] else "")
    return table


def _cells(used: queries.DemoUsage) -> list[str]:
    outcomes = "\n".join(f"{count} {outcome}" for outcome, count in used.outcomes.items())
    counts = [f"{count:,}" for count in (used.batches, used.requests)]
    tokens = [f"{count:,}" for count in (used.input_tokens, used.output_tokens)]
    money = [dollars(amount) for amount in (used.cost, used.list_price, used.list_price - used.cost)]
    return [*counts, outcomes, *tokens, *money]


def _sum(rows: Sequence[queries.DemoUsage]) -> queries.DemoUsage:
    return queries.DemoUsage(
        model="together",
        batches=sum(row.batches for row in rows),
        requests=sum(row.requests for row in rows),
        outcomes=sum((Counter(row.outcomes) for row in rows), Counter[str]()),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        cost=sum((row.cost for row in rows), Decimal(0)),
        list_price=sum((row.list_price for row in rows), Decimal(0)),
    )
