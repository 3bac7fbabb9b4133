"""The result of a request; it decodes parts of the answer when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from carpool.answers import ANSWER_PRUNED, AnswerError, PackedAnswer
from carpool.contract import Answer, Usage, to_json
from carpool.exceptions import CarpoolError, InvalidAnswer

if TYPE_CHECKING:
    from anthropic.types import Message

IN_BATCH = "batch"

_decode_answer = msgspec.json.Decoder(Answer).decode


class _Block(msgspec.Struct):
    type: str
    text: str | None = None


class _Blocks(msgspec.Struct):
    content: list[_Block] = []


class Result:
    """How one request ended: its message or its error, the tokens it used, and what it cost in dollars."""

    def __init__(self, answer: Answer | PackedAnswer) -> None:
        self._source = answer

    @cached_property
    def _answer(self) -> Answer:
        return self._source.answer() if isinstance(self._source, PackedAnswer) else self._source

    @classmethod
    def from_json(cls, data: bytes | str | Mapping[str, Any]) -> Result:
        """Return the result in what a callback got: the argument of a Task, or the `data` of a webhook's body.

        Raises InvalidAnswer for anything else.
        """
        try:
            return cls(_decode_answer(data if isinstance(data, bytes | str) else to_json(data)))
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise InvalidAnswer(f"not an answer of Carpool: {error}") from None

    @property
    def id(self) -> str:
        """The request's id, as `enqueue` returned it."""
        return self._source.id

    @property
    def client(self) -> str:
        """The client that enqueued it."""
        return self._answer.client

    @property
    def model(self) -> str:
        """The model that the request names."""
        return self._answer.model

    @property
    def state(self) -> str:
        """The request's final state: completed, discarded or canceled."""
        return self._answer.state

    @property
    def outcome(self) -> str:
        """Anthropic's word for the result: succeeded, errored, canceled or expired."""
        return self._answer.outcome

    @property
    def usage(self) -> Usage | None:
        """Token counts, or None if no answer was made. A canceled request's answer is dropped, but paid for."""
        return self._answer.usage

    @property
    def processing(self) -> str:
        """How it was answered: in a "batch", or, as its deadline was near, in "real_time" at the full price."""
        return self._answer.processing or IN_BATCH

    @property
    def attempts(self) -> int:
        """How many batches the request was part of."""
        return self._answer.attempts

    @property
    def batch_id(self) -> str | None:
        """Anthropic's id of the last of those batches, msgbatch_…."""
        return self._answer.batch_id

    @cached_property
    def message(self) -> dict[str, Any] | None:
        """The Message as the API's JSON has it, whatever is installed; None if there is none.

        The result itself can be a message of the next request: `messages=[*earlier, result, {"role": "user", …}]`.
        """
        message: dict[str, Any] | None = msgspec.json.decode(self._answer.message)
        return message

    @cached_property
    def sdk_message(self) -> Message | None:
        """The same as an `anthropic.types.Message`; raises ImportError where Anthropic's SDK is not installed."""
        if self.message is None:
            return None
        return _message_class().construct(**self.message)

    @property
    def text(self) -> str:
        """The text of the message's content blocks, joined; "" if there is none."""
        message = msgspec.json.decode(self._answer.message, type=_Blocks | None)
        blocks = message.content if message else []
        return "".join(block.text or "" for block in blocks if block.type == "text")

    @cached_property
    def error(self) -> AnswerError | None:
        """Why there is no message; None if there is one."""
        return msgspec.json.decode(self._answer.error, type=AnswerError | None)

    @cached_property
    def metadata(self) -> Any:
        """The metadata that `enqueue` was given."""
        return msgspec.json.decode(self._answer.metadata)

    @property
    def cost(self) -> Decimal | None:
        """Dollars billed, also for an answer that was dropped; None if none was made, or its price is unknown."""
        return _dollars(self._answer.cost)

    @property
    def list_price(self) -> Decimal | None:
        """Dollars that the same tokens cost outside a batch; None if unknown."""
        return _dollars(self._answer.list_price)

    @property
    def saved(self) -> Decimal | None:
        """Dollars saved: the list price less the cost; None if unknown."""
        if self.list_price is None or self.cost is None:
            return None
        return self.list_price - self.cost

    @property
    def enqueued_at(self) -> datetime:
        """When the producer enqueued the request, in UTC."""
        return datetime.fromisoformat(self._answer.enqueued_at)

    @property
    def finished_at(self) -> datetime:
        """When the request reached its final state, in UTC."""
        return datetime.fromisoformat(self._answer.finished_at)

    def raise_for_error(self) -> None:
        """Raise RequestFailed unless the request succeeded, or AnswerPruned if its answer is no longer kept."""
        if self.error and self.error.type == ANSWER_PRUNED:
            raise AnswerPruned(self)
        if self.outcome != "succeeded" or self.error:
            raise RequestFailed(self)

    def __repr__(self) -> str:
        return f"<Result {self.id} {self.outcome} {self.model}>"


def _message_class() -> type[Message]:
    try:
        found: type[Message] = import_module("anthropic.types").Message
    except ModuleNotFoundError as error:
        needs = "Result.sdk_message needs Anthropic's SDK: pip install 'carpool[anthropic]'"
        raise ImportError(needs, name="anthropic") from error
    return found


class RequestFailed(CarpoolError):
    """The request ended without a message; `result` has the reason."""

    def __init__(self, result: Result) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        error = self.result.error
        reason = f": {error.type}: {error.message}" if error else ""
        return f"request {self.result.id} {self.result.outcome}{reason}"


class AnswerPruned(RequestFailed):
    """The request ended so long ago that its answer is no longer kept (`answers_retention_days`)."""


def _dollars(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)
