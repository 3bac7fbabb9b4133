"""What the simulated model answers. Every answer is marked as simulated."""

import re
from itertools import islice

MARK = "[simulated]"
WORD = re.compile(r"[a-z]+")
POSITIVE = frozenset(
    WORD.findall(
        "amazing best brilliant comfortable delicious delighted easy excellent fantastic fast favourite friendly good "
        "great happy helpful impressed love loved lovely perfect pleased recommend reliable superb thrilled wonderful"
    )
)
NEGATIVE = frozenset(
    WORD.findall(
        "annoying awful bad boring broke broken cheap cold crashes cracked damaged dead died dirty disappointed "
        "disappointing failed hate horrible late leaked noisy poor refund returned rude slow terrible useless waste "
        "worst wrong"
    )
)
# How much of a prompt is read: enough for a plausible answer, in the same time whatever its length.
INSTRUCTION_CHARS = 300
EXCERPT_CHARS = 4_000
ECHOED_CHARS = 80
BULLET_WORDS = 8


def answer_to(prompt: str) -> str:
    """Return an answer to the last user message: a class, three bullet points, or an echo."""
    instruction = f"{prompt[:INSTRUCTION_CHARS]} {prompt[-INSTRUCTION_CHARS:]}".lower()
    if "bullet" in instruction:
        return _three_bullets(prompt)
    if "positive" in instruction and "negative" in instruction:
        return f"{MARK} {_sentiment(prompt)}"
    return f"{MARK} An answer to: {' '.join(prompt[:ECHOED_CHARS].split())}"


def _sentiment(prompt: str) -> str:
    """Weigh the words of the review: the text after the prompt's last colon or line break."""
    review = re.split(r"\n|:", prompt.strip())[-1]
    words = set(WORD.findall(review.lower()))
    balance = len(words & POSITIVE) - len(words & NEGATIVE)
    return "positive" if balance > 0 else "negative" if balance < 0 else "neutral"


def _three_bullets(prompt: str) -> str:
    """Use the longest lines of prose in the first part of the text."""
    lines = [re.sub(r"[^\w\s,.'-]", "", line).split() for line in prompt[:EXCERPT_CHARS].splitlines()[1:]]
    prose = [words for words in lines if len(words) >= 4] or [prompt[:EXCERPT_CHARS].split()]
    longest = sorted(prose, key=len, reverse=True)
    picked = islice((words for _ in range(3) for words in longest), 3)
    return "\n".join(f"- {MARK} {' '.join(words[:BULLET_WORDS])} …" for words in picked)
