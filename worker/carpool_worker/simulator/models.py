"""The models that the simulator lists, and how many output tokens each may write."""

from functools import lru_cache
from typing import Any, NamedTuple

# The most output tokens, by the beginning of the model's name (Anthropic's model overview, rounded).
MAX_OUTPUT_TOKENS = {
    "claude-haiku-": 64_000,
    "claude-sonnet-": 64_000,
    "claude-opus-": 128_000,
    "claude-fable-": 128_000,
    "claude-mythos-": 128_000,
}
MAX_INPUT_TOKENS = 200_000
# The beta that allows longer answers in batches.
LONG_OUTPUT_BETA = "output-300k-2026-03-24"
LONG_OUTPUT_TOKENS = 300_000


class ListedModel(NamedTuple):
    """A model of the list: its id, its name for people, and when it came out."""

    id: str
    display_name: str
    created_at: str

    def as_answer(self) -> dict[str, Any]:
        """Return the API's `model` object."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.display_name,
            "created_at": self.created_at,
            "lifecycle": "active",
            "line": self.id.split("-")[1],
            "deprecated_at": None,
            "retires_at": None,
            "max_input_tokens": MAX_INPUT_TOKENS,
            "max_tokens": max_output_tokens(self.id),
            "capabilities": None,
        }


NEWEST_FIRST = (
    ListedModel("claude-opus-4-5-20251101", "Claude Opus 4.5", "2025-11-24T00:00:00Z"),
    ListedModel("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "2025-10-15T00:00:00Z"),
    ListedModel("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "2025-09-29T00:00:00Z"),
)


def find_model(name: str) -> ListedModel | None:
    """Return the model with this id, or the one that this alias, an id without its date, stands for."""
    return next((model for model in NEWEST_FIRST if name in (model.id, model.id.rpartition("-")[0])), None)


@lru_cache
def max_output_tokens(model: str, is_long: bool = False) -> int | None:
    """Return the most tokens that a model with this name can answer; None: there is no such model."""
    for beginning, tokens in MAX_OUTPUT_TOKENS.items():
        if model.startswith(beginning):
            return LONG_OUTPUT_TOKENS if is_long else tokens
    return None
