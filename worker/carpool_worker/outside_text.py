"""Text from outside, made such that every database can store it and every encoder can write it. Pure.

What an API, a relay or a receiver says goes into tables, logs, Flower and callbacks. PostgreSQL stores no NUL, UTF-8
has no lone surrogates, a terminal obeys escape sequences, and nobody promises that an error is short: so such text is
cleaned where it enters, once.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"
ELLIPSIS = " …"

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Control characters, except for tabs and newlines."""


def cleaned(text: str, limit: int) -> str:
    """Return text of at most `limit` characters, with control characters and lone surrogates replaced."""
    kept = text if len(text) <= limit else text[: limit - len(ELLIPSIS)] + ELLIPSIS
    # Two surrogates that belong together become the character that they stand for.
    whole = kept.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return CONTROL.sub(REPLACEMENT, whole)
