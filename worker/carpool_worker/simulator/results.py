"""The lines of a batch's results, and the simulated messages in them."""

from typing import Any, Literal

import msgspec

from carpool_worker.simulator.caching import CacheTokens
from carpool_worker.simulator.json_examples import example_of
from carpool_worker.simulator.params import CHARS_PER_TOKEN, SimulatedParams, Tool

StopReason = Literal["end_turn", "max_tokens", "refusal", "tool_use"]


class SimulatedCacheCreation(msgspec.Struct, gc=False):
    """Tokens written to the cache, by how long they stay."""

    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class SimulatedUsage(msgspec.Struct, gc=False):
    """What the answer is billed by; `input_tokens` excludes cached ones."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    cache_creation: SimulatedCacheCreation
    service_tier: str = "batch"
    inference_geo: str | None = None
    server_tool_use: None = None


class TextBlock(msgspec.Struct, gc=False):
    """Text of an answer."""

    text: str
    type: str = "text"


class ToolUseBlock(msgspec.Struct, gc=False):
    """A call of a tool in an answer."""

    id: str
    name: str
    input: dict[str, Any]
    type: str = "tool_use"


AnswerBlock = TextBlock | ToolUseBlock | dict[str, Any]


class SimulatedMessage(msgspec.Struct, gc=False):
    """A whole answer, as `anthropic.types.Message` has it."""

    id: str
    model: str | None
    content: list[AnswerBlock]
    stop_reason: StopReason
    usage: SimulatedUsage
    type: str = "message"
    role: str = "assistant"
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None


class Succeeded(msgspec.Struct, gc=False):
    """The result of a request that was answered."""

    message: SimulatedMessage
    type: str = "succeeded"


class SimulatedErrorDetail(msgspec.Struct, gc=False):
    """The error's type and message."""

    type: str
    message: str


class ErrorBody(msgspec.Struct, gc=False):
    """An error as every answer of the API has it."""

    error: SimulatedErrorDetail
    request_id: str
    type: str = "error"


class Errored(msgspec.Struct, gc=False):
    """The result of a request that failed."""

    error: ErrorBody
    type: str = "errored"


class Unrun(msgspec.Struct, gc=False):
    """The result of a request that never ran: `canceled` or `expired`."""

    type: str


class SimulatedLine(msgspec.Struct, gc=False):
    """One line of the results."""

    custom_id: str
    result: Succeeded | Errored | Unrun


def encode_lines(lines: list[SimulatedLine]) -> bytes:
    """Return the lines as JSON, each with its newline."""
    return msgspec.json.Encoder().encode_lines(lines)


WROTE_NOTHING = SimulatedCacheCreation(0, 0)


def succeeded(number: str, params: SimulatedParams, text: str, cached: CacheTokens) -> Succeeded:
    """Return an answer with this text, cut where `max_tokens` ends it; `number` is unique to this run."""
    budget = (params.max_tokens or 0) * CHARS_PER_TOKEN
    stop: StopReason = "max_tokens" if len(text) > budget else "end_turn"
    text = text[:budget]
    return _message(number, params, [TextBlock(text)], len(text), stop, cached)


def called(number: str, params: SimulatedParams, tool: Tool, cached: CacheTokens) -> Succeeded:
    """Return a call of the tool with the smallest input that its schema allows; raise NoExampleError."""
    arguments = example_of(msgspec.json.decode(tool.input_schema))
    block = ToolUseBlock(f"toolu_{number}", tool.name, arguments)
    chars = len(msgspec.json.encode(arguments))
    return _message(number, params, [block], chars, "tool_use", cached)


def dictated(
    number: str, params: SimulatedParams, content: list[dict[str, Any]], cached: CacheTokens
) -> Succeeded:
    """Return an answer of these blocks, as they stand."""
    calls_tool = any(block.get("type") == "tool_use" for block in content)
    chars = len(msgspec.json.encode(content))
    return _message(number, params, [*content], chars, "tool_use" if calls_tool else "end_turn", cached)


def refused(number: str, params: SimulatedParams, cached: CacheTokens) -> Succeeded:
    """Return a refusal, which the API counts (and bills) as succeeded."""
    text = "[simulated] I can't help with that."
    return _message(number, params, [TextBlock(text)], len(text), "refusal", cached)


def errored(number: str, error_type: str, message: str) -> Errored:
    """Return a failure with this error."""
    return Errored(ErrorBody(SimulatedErrorDetail(error_type, message), "req_" + number))


def _message(
    number: str,
    params: SimulatedParams,
    content: list[AnswerBlock],
    chars: int,
    stop: StopReason,
    cached: CacheTokens,
) -> Succeeded:
    written = cached.written_5m + cached.written_1h
    usage = SimulatedUsage(
        max(params.prompt_tokens() - written - cached.read, 1),
        max(chars // CHARS_PER_TOKEN, 1),
        written,
        cached.read,
        SimulatedCacheCreation(cached.written_5m, cached.written_1h) if written else WROTE_NOTHING,
    )
    return Succeeded(SimulatedMessage("msg_" + number, params.model, content, stop, usage))
