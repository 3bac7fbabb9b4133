"""The lines of a batch's results, and the simulated messages in them."""

from hashlib import blake2b
from typing import Literal

import msgspec

from carpool_worker.simulator.caching import CHARS_PER_TOKEN, CacheTokens
from carpool_worker.simulator.params import Params

StopReason = Literal["end_turn", "max_tokens", "refusal"]


class CacheCreation(msgspec.Struct):
    """Tokens written to the cache, by how long they stay."""

    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class Usage(msgspec.Struct):
    """What the answer is billed by; `input_tokens` leaves out the cached ones."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    cache_creation: CacheCreation
    service_tier: str = "batch"
    inference_geo: str | None = None
    server_tool_use: None = None


class TextBlock(msgspec.Struct):
    """A content block of an answer."""

    text: str
    type: str = "text"
    citations: None = None


class Message(msgspec.Struct):
    """A whole answer, as `anthropic.types.Message` has it."""

    id: str
    model: str | None
    content: list[TextBlock]
    stop_reason: StopReason
    usage: Usage
    type: str = "message"
    role: str = "assistant"
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None


class Succeeded(msgspec.Struct):
    """The result of a request that was answered."""

    message: Message
    type: str = "succeeded"


class ErrorDetail(msgspec.Struct):
    """The error's type and message."""

    type: str
    message: str


class ErrorBody(msgspec.Struct):
    """An error as every answer of the API has it."""

    error: ErrorDetail
    request_id: str
    type: str = "error"


class Errored(msgspec.Struct):
    """The result of a request that failed."""

    error: ErrorBody
    type: str = "errored"


class Unrun(msgspec.Struct):
    """The result of a request that never ran: `canceled` or `expired`."""

    type: str


class Line(msgspec.Struct):
    """One line of the results."""

    custom_id: str
    result: Succeeded | Errored | Unrun

    def encode(self) -> bytes:
        """Return the line, newline included."""
        return msgspec.json.encode(self) + b"\n"


def succeeded(run_id: str, params: Params, text: str, cached: CacheTokens) -> Succeeded:
    """Return an answer with this text, cut where `max_tokens` ends it."""
    budget = (params.max_tokens or 0) * CHARS_PER_TOKEN
    stop_reason: StopReason = "max_tokens" if len(text) > budget else "end_turn"
    return _message(run_id, params, text[:budget], stop_reason, cached)


def refused(run_id: str, params: Params, cached: CacheTokens) -> Succeeded:
    """Return a refusal, which the API counts (and bills) as succeeded."""
    return _message(run_id, params, "[simulated] I can't help with that.", "refusal", cached)


def errored(run_id: str, error_type: str, message: str) -> Errored:
    """Return a failure with this error."""
    return Errored(ErrorBody(ErrorDetail(error_type, message), f"req_{_token(run_id)}"))


def _message(run_id: str, params: Params, text: str, stop: StopReason, cached: CacheTokens) -> Succeeded:
    usage = Usage(
        input_tokens=max(params.text_chars() // CHARS_PER_TOKEN - cached.total, 1),
        output_tokens=max(min(len(text) // CHARS_PER_TOKEN, params.max_tokens or 0), 1),
        cache_creation_input_tokens=cached.written_5m + cached.written_1h,
        cache_read_input_tokens=cached.read,
        cache_creation=CacheCreation(cached.written_5m, cached.written_1h),
    )
    return Succeeded(Message(f"msg_{_token(run_id)}", params.model, [TextBlock(text)], stop, usage))


def _token(run_id: str) -> str:
    return "01" + blake2b(run_id.encode(), digest_size=11).hexdigest()
