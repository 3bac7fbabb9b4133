"""`carpool flower`: where each batch is a row."""

from __future__ import annotations

from typing import Annotated

import typer


def flower(
    address: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5555,
) -> None:
    """Run Flower, where each batch is a row, from its first request to what it cost.

    Beyond this machine it needs a password: FLOWER_BASIC_AUTH=user:password. It only shows, unless
    FLOWER_READ_ONLY=false. Options come from FLOWER_* in the environment and from config/flower.py here, which explains
    each. Example:

        FLOWER_BASIC_AUTH=ops:… carpool flower --address 0.0.0.0
    """
    from carpool_worker import flower_process, preflight

    preflight.check_port(address, port)
    flower_process.prepare(address)
    preflight.check_redis()
    flower_process.run(address, port)
