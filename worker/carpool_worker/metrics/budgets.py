"""Metrics of budgets. Pure. Clients without a budget of their own are counted together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric

from carpool_worker.metrics.families import OTHERS, gauge
from carpool_worker.policies.budgets import BudgetBalance
from carpool_worker.units import DOLLAR


def of_budgets(balances: Mapping[str, BudgetBalance], held: Mapping[str, int]) -> Iterator[Metric]:
    """Yield what clients may spend, have spent and have reserved, and how many of their requests are over budget."""
    per = ("client", "period")
    limits = [
        ((client, period), limit / DOLLAR)
        for client, one in balances.items()
        for period, limit in one.budget.limits.items()
    ]
    yield gauge("budget_dollars", "What a client may spend in this period, in US dollars.", per, limits)
    spent = [((client, period), balances[client].spent[period] / DOLLAR) for (client, period), _ in limits]
    yield gauge("budget_spent_dollars", "What a client has spent in this period, in US dollars.", per, spent)
    reserved = [((client,), one.reserved / DOLLAR) for client, one in balances.items()]
    text = "What is reserved of a client's budget for answers to come, in US dollars."
    yield gauge("budget_reserved_dollars", text, ("client",), reserved)
    waiting = {(client,): float(held.get(client, 0)) for client in balances}
    if others := sum(count for client, count in held.items() if client not in balances):
        waiting[OTHERS,] = others
    text = "Requests that wait because they are over their client's budget."
    yield gauge("requests_held", text, ("client",), waiting.items())


def of_key_budgets(balances: Mapping[str, BudgetBalance]) -> Iterator[Metric]:
    """Yield what keys of the gateway with a budget may spend, have spent and have reserved."""
    per = ("key", "period")
    limits = [
        ((key, period), limit / DOLLAR)
        for key, one in balances.items()
        for period, limit in one.budget.limits.items()
    ]
    yield gauge("key_budget_dollars", "What a key may spend in this period, in US dollars.", per, limits)
    spent = [((key, period), balances[key].spent[period] / DOLLAR) for (key, period), _ in limits]
    yield gauge("key_budget_spent_dollars", "What a key has spent in this period, in US dollars.", per, spent)
    reserved = [((key,), one.reserved / DOLLAR) for key, one in balances.items()]
    text = "What is reserved of a key's budget for answers to come, in US dollars."
    yield gauge("key_budget_reserved_dollars", text, ("key",), reserved)
