"""A task for Inspect: `inspect eval inspect_task.py --model anthropic/claude-haiku-4-5 [--batch …]`."""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def answers() -> Task:
    """Return a task of ten questions, each answered by an echo of it."""
    samples = [Sample(input=f"Say the number {number}.", target=f"number {number}") for number in range(10)]
    return Task(dataset=samples, solver=generate(), scorer=includes())
