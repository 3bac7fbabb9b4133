"""`carpool advise`: what would cost less, from what was really used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from carpool_worker.commands.options import Json, OfClient
from carpool_worker.commands.tables import print_json
from carpool_worker.commands.usage import SinceDay
from carpool_worker.formatting import dollars

if TYPE_CHECKING:
    from carpool_worker.advisor import Advice


def advise(since: SinceDay = "7d", client: OfClient = None, as_json: Json = False) -> None:
    """Suggest what would cost less, from what was really used.

    It looks for models of which a smaller one would cost a fraction, for shared prompts that aren't marked for the
    cache, for max_tokens far above the length of any answer, for deadlines that cost the full price, and for lanes
    whose batches leave too small. Savings are those of a month at the rate since then, for each piece of advice by
    itself: they don't add up if two of them are about the same tokens. Samples of requests are read; sizes and counts
    are shown, never contents. Examples:

        carpool advise
        carpool advise --since 30d --client billing
        carpool advise --json | jq 'select((.saves_per_month // 0 | tonumber) > 100) | .subject'
    """
    from carpool_worker.advisor import advise as find_advice
    from carpool_worker.commands.times import day_of
    from carpool_worker.database import engine
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings

    first = day_of("--since", since)
    check_tables()
    advice = find_advice(engine(), first, client, settings().flush_interval, settings().deadline_rule)
    if as_json:
        print_json(advice)
    else:
        _show(advice, first)


def _show(advice: Sequence[Advice], first: str) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    if not advice:
        console.print(f"No advice: nothing that was used since {first} would cost less.")
    for one in advice:
        saved = dollars(one.saves_per_month) if one.saves_per_month else "less than $0.01"
        console.print(Text.assemble((one.subject, "bold"), "  ", (f"{saved} a month", "green")))
        console.print(Padding(Text(one.what), (0, 0, 0, 2)))
        console.print(Padding(Text(one.how, style="dim"), (0, 0, 1, 2)))
