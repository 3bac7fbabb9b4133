"""Texts that compress as prose does: words of a made-up language, as often as Zipf's law says, from a fixed seed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import accumulate, islice
from random import Random

SEED = 1928
WORDS = 9_000
ONSETS = [*"bcdfghlmnprstvw", "br", "ch", "cl", "pl", "pr", "sh", "st", "th", "tr", ""]
VOWELS = [*"aaeeeeiiou", "ea", "ou"]
CODAS = ["", "", "", *"dlmnrst", "nd", "ng", "st"]
LONGEST_WORD = 4
"""Syllables."""

SENTENCE_WORDS = (5, 18)
TEXTS = 1_009
"""Texts of a size that are made; a segment of 200 requests has no text twice. Prime, so that cycles don't meet."""


class Prose:
    """A stream of text."""

    def __init__(self, seed: int = SEED) -> None:
        self._random = Random(seed)
        self._words, self._weights = _vocabulary()

    def text(self, size: int) -> str:
        """Return a text of so many characters, all of them ASCII."""
        return " ".join(self._sentences(size))[:size]

    def _sentences(self, size: int) -> Iterator[str]:
        made = 0
        while made < size:
            count = self._random.randint(*SENTENCE_WORDS)
            words = self._random.choices(self._words, cum_weights=self._weights, k=count)
            sentence = f"{' '.join(words).capitalize()}."
            made += len(sentence) + 1
            yield sentence


@cache
def texts(size: int, seed: int = SEED) -> list[str]:
    """Return TEXTS texts of so many characters; making them takes a moment, so do it before what is measured."""
    prose = Prose(seed)
    return [prose.text(size) for _ in range(TEXTS)]


@cache
def _vocabulary() -> tuple[list[str], list[float]]:
    random = Random(SEED)
    words = dict.fromkeys(_word(random) for _ in range(2 * WORDS))  # a set would forget the order
    frequencies = accumulate(1 / (rank + 2) for rank in range(WORDS))
    return list(islice(words, WORDS)), list(frequencies)


def _word(random: Random) -> str:
    syllables = min(random.randint(1, LONGEST_WORD), random.randint(1, LONGEST_WORD))
    return "".join(
        random.choice(ONSETS) + random.choice(VOWELS) + random.choice(CODAS) for _ in range(syllables)
    )
