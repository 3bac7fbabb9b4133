"""The params of a request: validated when the batch runs, not when it is created, as in the API."""

from typing import Any, NamedTuple

import msgspec

from carpool_worker.simulator.models import LONG_OUTPUT_BETA, max_output_tokens

CHARS_PER_TOKEN = 4


class ParamsError(NamedTuple):
    """Why a request can't run: the API's error type and message."""

    type: str
    message: str


class Block(msgspec.Struct, gc=False):
    """A content block, as far as the simulator reads it."""

    type: str = "text"
    text: str = ""
    name: str | None = None  # of the tool that a tool_use calls
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


class ToolChoice(msgspec.Struct, gc=False):
    """Whether the model must call a tool: `any` of them, the `tool` with this name, or none."""

    type: str = "auto"
    name: str | None = None


class OutputFormat(msgspec.Struct, gc=False):
    """The form that the answer's text must have: JSON for this schema."""

    type: str = "json_schema"
    schema: dict[str, Any] | None = None


class OutputConfig(msgspec.Struct, gc=False):
    """How the model answers, as far as the simulator reads it."""

    format: OutputFormat | None = None


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
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # the beta's name for output_config.format
    stream: bool | None = None
    speed: str | None = None
    store: Any = None
    fallbacks: Any = None

    def prompt_tokens(self) -> int:
        """Return how many tokens of text there are in the whole prompt."""
        chars = len(text_of(self.system)) + sum(len(tool.text()) for tool in self.tools or ())
        for turn in self.messages or ():
            chars += len(turn.text())
        return chars // CHARS_PER_TOKEN

    def called_tool(self) -> Tool | None:
        """Return the tool that the answer must call, if it must call one: of several, one that was not called yet."""
        if self.tool_choice is None or not self.tools:
            return None
        if self.tool_choice.type == "tool":
            return next((tool for tool in self.tools if tool.name == self.tool_choice.name), None)
        if self.tool_choice.type != "any":
            return None
        own = [tool for tool in self.tools if bytes(tool.input_schema)]  # not those that the API runs itself
        called = self._called()
        return next((tool for tool in own if tool.name not in called), own[-1] if own else None)

    def answer_schema(self) -> dict[str, Any] | None:
        """Return the schema of the JSON that the answer's text must be, if there is one."""
        form = self.output_format if self.output_config is None else self.output_config.format
        return None if form is None else form.schema

    def _called(self) -> set[str | None]:
        blocks = (
            block for turn in self.messages or () if isinstance(turn.content, list) for block in turn.content
        )
        return {block.name for block in blocks if block.type == "tool_use"}

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
    return _forbidden(params) or _missing(params) or _unknown_tool(params) or _beyond_model(params, betas)


def find_message_error(params: SimulatedParams) -> ParamsError | None:
    """Return the error that the Messages API gives for these params."""
    if params.stream:
        return _invalid("stream: this simulator does not stream")
    return _missing(params) or _unknown_tool(params) or _beyond_model(params, betas="")


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


def _unknown_tool(params: SimulatedParams) -> ParamsError | None:
    choice = params.tool_choice
    if choice is None or choice.type in ("auto", "none"):
        return None
    if not params.tools:
        return _invalid("tool_choice may only be specified while providing tools")
    if choice.type == "tool" and params.called_tool() is None:
        return _invalid(f"tool_choice: Tool '{choice.name}' not found in provided tools")
    return None


def _beyond_model(params: SimulatedParams, betas: str) -> ParamsError | None:
    model, wanted = params.model or "", params.max_tokens or 0
    allowed = max_output_tokens(model, LONG_OUTPUT_BETA in betas)
    if allowed is None:
        return ParamsError("not_found_error", f"model: {model}")
    if wanted > allowed:
        limit = f"{wanted} > {allowed}, which is the maximum allowed number of output tokens for {model}"
        return _invalid(f"max_tokens: {limit}")
    return None


def _unsupported(field: str) -> ParamsError:
    return _invalid(f'"{field}" is not supported in the Message Batches API')


def _invalid(message: str) -> ParamsError:
    return ParamsError("invalid_request_error", message)
