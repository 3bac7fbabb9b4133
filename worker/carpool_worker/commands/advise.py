"""`carpool advise`: what would cost less, from what was really used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.usage import OfClient, Since
from carpool_worker.formatting import dollars

if TYPE_CHECKING:
    from carpool_worker.advisor import Advice


def advise(
    since: Since = "7d",
    client: OfClient = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list, the dearest first.")] = False,
) -> None:
    """Say what would cost less, from what was really used.

    Looks for models where a smaller one would cost a fraction, for shared prompts that nobody marked for the cache, for
    max_tokens far above what is ever written, and for lanes whose batches leave too small. What a month saves is
    reckoned at the rate seen since then, for each piece of advice alone: they don't add up where two of them are about
    the same tokens. It reads samples of requests and shows sizes and counts, never contents.

        carpool advise
        carpool advise --since 30d --client billing
        carpool advise --json | jq '.[] | select(.saves_per_month > 100)'
    """
    from carpool_worker.advisor import advise as look
    from carpool_worker.commands.days import day_of
    from carpool_worker.database import engine
    from carpool_worker.processes import preflight
    from carpool_worker.settings import settings

    first = day_of("--since", since)
    preflight.check_tables()
    advice = look(engine(), first, client, settings().flush_interval)
    if as_json:
        typer.echo(_json(advice))
    else:
        _show(advice, first)


def _json(advice: Sequence[Advice]) -> str:
    import msgspec

    encoded = msgspec.json.Encoder(decimal_format="number").encode(advice)
    return msgspec.json.format(encoded, indent=1).decode()


def _show(advice: Sequence[Advice], first: str) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    if not advice:
        console.print(f"Nothing to advise from what was used since {first}.")
    for one in advice:
        money = f"{dollars(one.saves_per_month)} a month" if one.saves_per_month else "no money by itself"
        console.print(Text.assemble((one.subject, "bold"), "  ", (money, "green")))
        console.print(Padding(Text(one.what), (0, 0, 0, 2)))
        console.print(Padding(Text(one.how, style="dim"), (0, 0, 1, 2)))
