"""What the picture of usage says in words above it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from carpool_worker.formatting import counted, dollars
from carpool_worker.policies.budgets import Budget
from carpool_worker.views.forecast import Forecast
from carpool_worker.views.usage import UsageView, together


def title(first: date, last: date) -> str:
    """Return which days are shown."""
    if first == last:
        return f"Claude, {first:%-d %B %Y} (UTC)"
    if first.year != last.year:
        begin = f"{first:%-d %B %Y}"
    else:
        begin = f"{first:%-d %B}" if first.month != last.month else f"{first:%-d}"
    return f"Claude, {begin} to {last:%-d %B %Y} (UTC)"


def subtitles(rows: Sequence[UsageView], ahead: Forecast | None, budget: Budget | None) -> list[str]:
    """Return a line on what was spent and saved, one on what has no price, and one on where the month is going."""
    total = together(rows)
    cost, saved, listed = (amount or Decimal(0) for amount in (total.cost, total.saved, total.list_price))
    share = f" ({saved / listed:.0%} of the list price of {dollars(listed)})" if listed else ""
    answers = counted(total.requests, "answer")
    lines = [f"{dollars(cost)} spent for {answers}, {dollars(saved)} saved{share}; pale: what was saved"]
    if total.unpriced:
        lines.append(f"without {counted(total.unpriced, 'answer')} whose price is unknown")
    if ahead:
        of = f" of a budget of {dollars(budget.month)}" if budget and budget.month else ""
        lines.append(
            f"This month {dollars(ahead.to_date)} so far{of}; {dollars(ahead.at_end)} by its end, if it goes on like"
            " the last week"
        )
    return lines
