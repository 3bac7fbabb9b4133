"""The command `carpool`, wherever Carpool is installed: without the extra `worker`, it says what it needs.

Nothing but the standard library is imported at its top: `pip install carpool` gives services the producer, and none of
the packages that the commands need.
"""

from __future__ import annotations

import sys

EXTRA = "pip install 'carpool[worker]', or pip install '.[worker]' in a clone"
VERSION_OPTIONS = (["--version"], ["-V"])


def main() -> None:
    """Run the command line; exit code 1 and one line on stderr if what it needs is not installed."""
    if sys.argv[1:] in VERSION_OPTIONS:
        from carpool import __version__

        print(f"carpool {__version__}")
        return
    try:
        from carpool_worker.cli import main as run
    except ModuleNotFoundError as error:
        if _is_ours(error):
            raise
        sys.exit(_needs(error))
    run()


def _is_ours(error: ModuleNotFoundError) -> bool:
    return (error.name or "").partition(".")[0] in ("carpool", "carpool_worker")


def _needs(error: ModuleNotFoundError) -> str:
    has = "This is the producer alone, `from carpool import Producer`, which works without it"
    return f"carpool: the commands need the extra `worker` ({error.name} is not installed): {EXTRA}. {has}."


if __name__ == "__main__":
    main()
