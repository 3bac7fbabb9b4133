"""The report of the runs: a table for the terminal, Markdown and JSON for the details."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from tests.chaos.runs import Runs
from tests.chaos.scenario import Outcome

COLUMNS = (
    "scenario",
    "database",
    "accepted",
    "final",
    "ran twice",
    "billed / distinct",
    "delivered",
    "duplicates",
    "ledger $ / booked $",
    "faults",
    "seconds",
    "broken",
)
INTRODUCTION = """# What chaos did, and what became of the promises

`make chaos` wrote this: real processes, a simulated Anthropic, everything on one machine. Requests that were *accepted*
must be *final*; *billed* must equal *distinct* (nothing ran twice); what was *delivered* by webhook, task and reply
arrived at least once (*duplicates*: again, with the same id); the ledger's tokens, priced by a list of their own, must
equal what was booked, but for lost answers of calls in real time, which a note counts.
"""

LEGEND = """accepted  requests whose enqueue returned: each must be final
final     how these ended; discarded and canceled ones were attacked so
twice     requests that the simulator billed more often than once: must be 0
again     answers that came once more, with the same id; receivers must bear that
faults    crashes, outages and misdeeds during the run
s         seconds, with start and end
A red name: a promise was broken; the line above says which."""
"""What the columns of the table on the terminal mean."""


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return the table for the terminal: what fits 80 columns."""
    found = Table("scenario", "accepted", "final", "twice", "again", "faults", "s", title="Chaos")
    for one in outcomes:
        verdict = "[red]" if one.broken else "[green]"
        found.add_row(
            f"{verdict}{one.scenario}[/]\n{one.database}",
            f"{one.accepted:,}",
            _listed(one.final, "\n"),
            str(one.ran_twice),
            f"{sum(one.duplicates.values()):,}",
            f"{sum(one.faults.values()):,}",
            f"{one.seconds:.0f}",
        )
    return found


def write(folder: Path, runs: Runs) -> Path:
    """Write report.md and report.json into the folder; return the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "seed": runs.seed,
        "runs": [asdict(one) for one in runs.outcomes],
        "not_reached": runs.not_reached,
    }
    (folder / "report.json").write_text(json.dumps(found, indent=2))
    (folder / "report.md").write_text(markdown(runs))
    return folder / "report.md"


def markdown(runs: Runs) -> str:
    """Return the report as Markdown."""
    lines = [INTRODUCTION, f"Seed {runs.seed}.", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line(_cells(one)) for one in runs.outcomes]
    if runs.not_reached:
        lines += ["", "Not reached:", "", *(f"- {name}" for name in runs.not_reached)]
    for one in runs.outcomes:
        lines += ["", f"## {one.scenario}, {one.database} (seed {one.seed})", ""]
        lines += [f"- {count:,} × {fault}" for fault, count in sorted(one.faults.items())]
        lines += [f"- producer: {count:,} × {refusal}" for refusal, count in sorted(one.refusals.items())]
        lines += [f"- {note}" for note in one.notes]
        lines += [f"- **broken**: {sentence}" for sentence in one.broken]
    return "\n".join([*lines, ""])


def _cells(one: Outcome) -> list[str]:
    return [
        one.scenario,
        one.database,
        f"{one.accepted:,}" + (f" (+ {one.unknown:,} unknown)" if one.unknown else ""),
        _listed(one.final),
        str(one.ran_twice),
        f"{one.billed:,} / {one.distinct:,}",
        _listed(one.delivered),
        _listed(one.duplicates),
        f"{one.billed_dollars} / {one.booked_dollars}",
        f"{sum(one.faults.values()):,}",
        f"{one.seconds:.0f}",
        f"**{len(one.broken)}**" if one.broken else "none",
    ]


def _listed(counts: Mapping[str, int], between: str = ", ") -> str:
    return between.join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
