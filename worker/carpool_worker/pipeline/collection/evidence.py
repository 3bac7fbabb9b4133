"""What one read of a batch's results has shown: whether the body is this batch's results at all, and whole. Pure."""

from __future__ import annotations

from carpool_worker.claude.results import ReadChunk
from carpool_worker.formatting import counted

SAMPLE = 100
"""As many of the first custom_ids are looked up."""


class Evidence:
    """Collects what the lines of one read show. `sample` are the first custom_ids that they name."""

    def __init__(self) -> None:
        self._lines = self._strange = 0
        self.sample: list[str] = []

    def add(self, chunk: ReadChunk) -> None:
        """Add what some lines have shown."""
        self._lines += chunk.lines
        self._strange += chunk.strange
        if len(self.sample) < SAMPLE:
            self.sample += [*chunk.succeeded, *chunk.others][:SAMPLE]

    def objection(self, request_count: int) -> str | None:
        """Return why a request without a line may still get one from another read; None if these are the results.

        `request_count` is how many requests the batch has at Anthropic.
        """
        if self._lines < request_count:
            return f"{counted(self._lines, 'line')} for {counted(request_count, 'request')}"
        if self._strange:
            return f"not a result, as of a proxy or an error: {counted(self._strange, 'line')} of {self._lines:,}"
        return None if self.sample else f"none of {counted(self._lines, 'line')} can be read"
