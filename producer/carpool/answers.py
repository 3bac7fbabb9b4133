"""Answers as Claude's API words them and the worker stores them, and the parts of them that a service reads."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from carpool.contract import ABSENT, Answer, PackedAnswers, Usage, decode_answers, to_json
from carpool.exceptions import InvalidAnswer
from carpool.request_ids import ID_BYTES
from carpool.segments import unpack

DOLLAR = 10**12
"""Picodollars in a dollar: money is kept as integers, so that sums are exact."""


class AnswerError(msgspec.Struct, frozen=True):
    """Why a request has no message: the type of Anthropic's error, and its text."""

    type: str
    message: str = ""


class _StoredResult(msgspec.Struct, frozen=True, gc=False):
    type: str = "succeeded"
    message: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    reason: Any = None  # of outcomes that may come


class _StoredError(msgspec.Struct, frozen=True, gc=False):
    type: Any = None
    message: Any = None
    error: msgspec.Raw = ABSENT


_decode_result = msgspec.json.Decoder(_StoredResult).decode
_decode_error = msgspec.json.Decoder(_StoredError | str | None).decode
_decode_described = msgspec.json.Decoder(AnswerError).decode

SUCCEEDED = "succeeded"
ERRORED = "errored"

UNEXPLAINED = "Anthropic gave no reason."
REASONS = {
    ERRORED: UNEXPLAINED,
    "canceled": "The request was canceled.",
    "expired": "The batch expired before this request was run.",
}
"""What an outcome means where its result says nothing."""

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised for a stored result, or an error in it, that is not shaped as the API documents it."""

UNREADABLE = msgspec.Raw(
    to_json(AnswerError("unknown", "The API returned an error in a form that can't be read."))
)
"""The error of a request whose stored result is malformed."""

ANSWER_PRUNED = "answer_pruned"

PRUNED = msgspec.Raw(
    to_json(AnswerError(ANSWER_PRUNED, "The answer is no longer kept; what it used and cost still is."))
)
"""The error of a request that ended so long ago that its answer was dropped, or whose client was purged."""


class PackedAnswer(msgspec.Struct, frozen=True, gc=False):
    """One of PackedAnswers, not read yet."""

    packed: PackedAnswers
    at: int
    result: bytes

    @property
    def key(self) -> bytes:
        """The request's id in binary."""
        return self.packed.ids[self.at * ID_BYTES : (self.at + 1) * ID_BYTES]

    @property
    def id(self) -> str:
        """The request's id."""
        return self.key.hex()

    def answer(self) -> Answer:
        """Return the answer, as the worker makes it for every other callback."""
        packed, item = self.packed, self._item
        message, error = message_and_error(self.result)
        metadata = item(packed.metadata)
        return Answer(
            id=self.id,
            client=packed.client,
            model=packed.model,
            state=item(packed.states, "completed"),
            outcome=item(packed.outcomes, "succeeded"),
            message=message,
            error=error,
            usage=self._usage(),
            cost=dollars(item(packed.costs)),
            list_price=dollars(item(packed.list_prices)),
            processing=packed.processing or msgspec.UNSET,
            metadata=ABSENT if metadata is None else msgspec.Raw(metadata),
            attempts=item(packed.attempts, 1),
            batch_id=packed.batch_id,
            enqueued_at=rfc3339(packed.enqueued_at[self.at]),
            finished_at=rfc3339(packed.finished_at),
        )

    def _usage(self) -> Usage | None:
        packed, tokens = self.packed, self._item(self.packed.input_tokens)
        if tokens is None:
            return None
        others = (packed.output_tokens, packed.cache_write_tokens, packed.cache_read_tokens)
        return Usage(tokens, *(self._item(column) or 0 for column in others))

    def _item(self, column: list[Any] | None, default: Any = None) -> Any:
        return default if column is None else column[self.at]


def unpack_answers(packed: bytes) -> list[PackedAnswer]:
    """Return the answers in encoded PackedAnswers; raises InvalidAnswer if that is not what it is."""
    try:
        answers = decode_answers(packed)
        results = unpack(answers.results)
    except (ValueError, RecursionError, MemoryError) as error:  # msgspec's errors are ValueErrors
        raise InvalidAnswer(f"not packed answers of Carpool: {error}") from None
    columns = (column for column in msgspec.structs.astuple(answers) if isinstance(column, list))
    if len(answers.ids) != ID_BYTES * len(results) or any(len(column) != len(results) for column in columns):
        raise InvalidAnswer("not packed answers of Carpool: they are not as many as their results")
    # Whoever keeps one answer does not keep the segment.
    shared = msgspec.structs.replace(answers, results=b"")
    return [PackedAnswer(shared, at, result) for at, result in enumerate(results)]


def message_and_error(result: bytes | None) -> tuple[msgspec.Raw, msgspec.Raw]:
    """Return the Message and the error, each JSON, in a stored result; None, or b"", is one that is no longer kept."""
    if not result:
        return ABSENT, PRUNED
    try:
        stored = _decode_result(result)
    except MALFORMED:
        return ABSENT, UNREADABLE
    if stored.type == SUCCEEDED and stored.error is ABSENT:
        return stored.message, ABSENT
    return stored.message, _error_of(stored)


def error_type(result: bytes) -> str:
    """Return the type of the error in a stored result that did not succeed, as its callback gets it."""
    return _decode_described(message_and_error(result)[1]).type


def dollars(picodollars: int | None) -> str | None:
    """Return an amount in dollars, as a decimal string; None is unknown."""
    return None if picodollars is None else f"{Decimal(picodollars) / DOLLAR:f}"


def rfc3339(milliseconds: int) -> str:
    """Return a time (milliseconds since the epoch) as RFC 3339 has it, in UTC."""
    return f"{_second(milliseconds // 1_000)}.{milliseconds % 1_000:03d}Z"


@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _error_of(stored: _StoredResult) -> msgspec.Raw:
    """Return an error that says something, in the bytes in which it came if it is shaped as the API documents it."""
    # The API's error contains the error proper; older ones, and those of relays, are flat.
    error = stored.error
    try:
        outer = _decode_error(error)
        if isinstance(outer, _StoredError) and outer.error is not ABSENT:
            error = outer.error
        inner = _decode_error(error)
        if isinstance(inner, _StoredError) and _is_text(inner.type) and _is_text(inner.message):
            return error
    except MALFORMED:
        return UNREADABLE
    if inner is None and stored.type == SUCCEEDED:
        return ABSENT
    return msgspec.Raw(to_json(_described(stored, inner)))


def _described(stored: _StoredResult, error: _StoredError | str | None) -> AnswerError:
    kind = "unknown" if stored.type == ERRORED else stored.type
    if isinstance(error, str):
        return AnswerError(kind, error or UNEXPLAINED)
    if error and _is_text(error.type):
        kind = error.type
    if error and _is_text(error.message):
        return AnswerError(kind, error.message)
    unknown = f"The result is {stored.type!r}, which this version of Carpool does not know."
    if _is_text(stored.reason):
        unknown = f"{unknown} Its reason: {stored.reason}"
    return AnswerError(kind, REASONS.get(stored.type, unknown))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
