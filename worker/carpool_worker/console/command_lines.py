"""The command that shows or does the same as a page, to be copied into a terminal."""

from __future__ import annotations

import shlex


def command_line(*words: str, **options: object) -> str:
    """Return `carpool …` with its words and options, quoted for a shell; an option that is None or empty is left out.

    An option that is True has no value: `--yes`.
    """
    given = ["carpool", *words]
    for name, value in options.items():
        option = f"--{name.rstrip('_').replace('_', '-')}"
        if value is True:
            given.append(option)
        elif value not in (None, "", False):
            given += [option, str(value)]
    return shlex.join(given)
