"""The params of a request: validated when the batch runs, not when it is created, as in the API."""

from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

# The most output tokens, by the beginning of the model's name (Anthropic's model overview, rounded).
MAX_OUTPUT_TOKENS = {
    "claude-haiku-": 64_000,
    "claude-sonnet-": 64_000,
    "claude-opus-": 128_000,
    "claude-fable-": 128_000,
    "claude-mythos-": 128_000,
}
# The beta that allows longer answers in batches.
LONG_OUTPUT_BETA = "output-300k-2026-03-24"
LONG_OUTPUT_TOKENS = 300_000


class ParamsError(NamedTuple):
    """Why a request can't run: the API's error type and message."""

    type: str
    message: str


class Block(msgspec.Struct, gc=False):
    """A content block, as far as the simulator reads it."""

    type: str = "text"
    text: str = ""
    cache_control: dict[str, Any] | None = None


class Tool(msgspec.Struct, gc=False):
    """A tool, as far as the simulator reads it."""

    name: str = ""
    description: str = ""
    input_schema: msgspec.Raw = msgspec.Raw(b"")
    cache_control: dict[str, Any] | None = None

    def text(self) -> str:
        """Return what the model reads of the tool."""
        return f"{self.name}\n{self.description}\n{bytes(self.input_schema).decode()}"


class ConversationTurn(msgspec.Struct, gc=False):
    """A message of the conversation."""

    role: str
    content: str | list[Block]

    def text(self) -> str:
        """Return the text of all its blocks."""
        return text_of(self.content)


class SimulatedParams(msgspec.Struct, gc=False):
    """The params of a Messages request, as far as the simulator reads them."""

    model: str | None = None
    max_tokens: int | None = None
    messages: list[ConversationTurn] | None = None
    system: str | list[Block] = ""
    tools: list[Tool] | None = None
    stream: bool | None = None
    speed: str | None = None
    store: Any = None
    fallbacks: Any = None

    def text_chars(self) -> int:
        """Return how many characters of text there are in the whole prompt."""
        chars = len(text_of(self.system)) + sum(len(tool.text()) for tool in self.tools or ())
        for turn in self.messages or ():
            chars += len(turn.text())
        return chars

    def last_user_text(self) -> str:
        """Return the text of the last user message, or nothing."""
        for turn in reversed(self.messages or ()):
            if turn.role == "user":
                return turn.text()
        return ""


def text_of(content: str | list[Block]) -> str:
    """Return the text of all blocks."""
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


_decoder = msgspec.json.Decoder(SimulatedParams)


def read_params(raw: msgspec.Raw) -> SimulatedParams | ParamsError:
    """Return the params, or the error for a field of the wrong type."""
    try:
        return _decoder.decode(raw)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        return _invalid(f"{path.rstrip('`') or 'params'}: {problem}")


def find_error(params: SimulatedParams, betas: str) -> ParamsError | None:
    """Return the error that the documented API gives for these params."""
    return _forbidden(params) or _missing(params) or _beyond_model(params, betas)


def _forbidden(params: SimulatedParams) -> ParamsError | None:
    if params.stream:
        return _unsupported("stream=True")
    if params.speed == "fast":
        return _unsupported("speed=fast")
    if params.store:
        return _unsupported("store")
    return _unsupported("fallbacks") if params.fallbacks else None


def _missing(params: SimulatedParams) -> ParamsError | None:
    if params.model is None:
        return _invalid("model: Field required")
    if params.max_tokens is None:
        return _invalid("max_tokens: Field required")
    if params.messages is None:
        return _invalid("messages: Field required")
    if not params.messages:
        return _invalid("messages: at least one message is required")
    return _invalid("max_tokens: must be greater than or equal to 1") if params.max_tokens < 1 else None


def _beyond_model(params: SimulatedParams, betas: str) -> ParamsError | None:
    model, wanted = params.model or "", params.max_tokens or 0
    allowed = _max_output_tokens(model, LONG_OUTPUT_BETA in betas)
    if allowed is None:
        return ParamsError("not_found_error", f"model: {model}")
    if wanted > allowed:
        limit = f"{wanted} > {allowed}, which is the maximum allowed number of output tokens for {model}"
        return _invalid(f"max_tokens: {limit}")
    return None


@lru_cache
def _max_output_tokens(model: str, is_long: bool) -> int | None:
    for beginning, tokens in MAX_OUTPUT_TOKENS.items():
        if model.startswith(beginning):
            return LONG_OUTPUT_TOKENS if is_long else tokens
    return None


def _unsupported(field: str) -> ParamsError:
    return _invalid(f'"{field}" is not supported in the Message Batches API')


def _invalid(message: str) -> ParamsError:
    return ParamsError("invalid_request_error", message)
