"""The params of a request: read for the answer, and validated when the batch runs, not when it is made."""

from typing import Any, NamedTuple

import msgspec

# Most output tokens by the beginning of the model's name (Anthropic's model overview, rounded where it varies).
MAX_OUTPUT_TOKENS = {
    "claude-haiku-": 64_000,
    "claude-sonnet-": 64_000,
    "claude-opus-": 128_000,
    "claude-fable-": 128_000,
    "claude-mythos-": 128_000,
}
# The beta that lets batches answer at greater length.
LONG_OUTPUT_BETA = "output-300k-2026-03-24"
LONG_OUTPUT_TOKENS = 300_000


class ParamsError(NamedTuple):
    """Why a request can't run: the API's error type and message."""

    type: str
    message: str


class Block(msgspec.Struct):
    """A content block, as far as the simulator reads it."""

    type: str = "text"
    text: str = ""
    cache_control: dict[str, Any] | None = None


class Turn(msgspec.Struct):
    """A message of the conversation."""

    role: str
    content: str | list[Block]

    def text(self) -> str:
        """Return the text of all its blocks."""
        return self.content if isinstance(self.content, str) else "\n".join(b.text for b in self.content)


class Params(msgspec.Struct):
    """The params of a Messages request, as far as the simulator reads them."""

    model: str | None = None
    max_tokens: int | None = None
    messages: list[Turn] | None = None
    system: str | list[Block] = ""
    stream: bool | None = None
    speed: str | None = None
    store: Any = None
    fallbacks: Any = None

    def text_chars(self) -> int:
        """Return how many characters of text there are in the whole prompt."""
        system = self.system if isinstance(self.system, str) else "".join(block.text for block in self.system)
        return len(system) + sum(len(turn.text()) for turn in self.messages or ())

    def last_user_text(self) -> str:
        """Return the text of the last user message, or nothing."""
        turns = [turn for turn in self.messages or () if turn.role == "user"]
        return turns[-1].text() if turns else ""


_decoder = msgspec.json.Decoder(Params)


def read_params(raw: bytes | msgspec.Raw, betas: str) -> Params | ParamsError:
    """Return the params, or the error that the documented API gives for them."""
    try:
        params = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        return ParamsError("invalid_request_error", f"{path.rstrip('`') or 'params'}: {problem}")
    return _forbidden(params) or _missing(params) or _beyond_model(params, betas) or params


def _forbidden(params: Params) -> ParamsError | None:
    wishes = {
        "stream=True": params.stream,
        "speed=fast": params.speed == "fast",
        "store": params.store,
        "fallbacks": params.fallbacks,
    }
    for wish, is_wanted in wishes.items():
        if is_wanted:
            return _invalid(f'"{wish}" is not supported in the Message Batches API')
    return None


def _missing(params: Params) -> ParamsError | None:
    for name in ("model", "max_tokens", "messages"):
        if getattr(params, name) is None:
            return _invalid(f"{name}: Field required")
    if not params.messages:
        return _invalid("messages: at least one message is required")
    if (params.max_tokens or 0) < 1:
        return _invalid("max_tokens: must be greater than or equal to 1")
    return None


def _beyond_model(params: Params, betas: str) -> ParamsError | None:
    model, wanted = params.model or "", params.max_tokens or 0
    allowed = next((most for name, most in MAX_OUTPUT_TOKENS.items() if model.startswith(name)), None)
    if allowed is None:
        return ParamsError("not_found_error", f"model: {model}")
    allowed = LONG_OUTPUT_TOKENS if LONG_OUTPUT_BETA in betas else allowed
    if wanted > allowed:
        limit = f"{wanted} > {allowed}, which is the maximum allowed number of output tokens for {model}"
        return _invalid(f"max_tokens: {limit}")
    return None


def _invalid(message: str) -> ParamsError:
    return ParamsError("invalid_request_error", message)
