"""What the agent loop asks of a model's provider."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from opencode.cancel import Cancel
from opencode.records import ModelInfo


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer, as it came."""

    content: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's reasoning, where it gives it."""

    content: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A finished call; `malformed` holds the raw text where the arguments were no JSON object."""

    call_id: str
    tool: str
    params: dict[str, Any]
    malformed: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of this one call so far: a later `Usage` of the same stream replaces an earlier one.

    `input` counts all prompt tokens, the `cached` ones among them.
    """

    input: int = 0
    output: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """The model stopped: of itself, to have tools called, or because it ran into its output limit."""

    reason: Literal["stop", "tool_calls", "length"]


Delta = Text | Reasoning | ToolCall | Usage | Finish


@dataclass(frozen=True, slots=True)
class UserMessage:
    content: str


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    content: str
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    tool: str
    content: str
    is_error: bool = False


Message = UserMessage | AssistantMessage | ToolResult


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as it is offered to a model; `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model. `model` is the provider's own name, without our `provider/` prefix.

    In `messages` each `AssistantMessage` with calls is followed by one `ToolResult` for each call, in order.
    """

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_output_tokens: int = 16_384


class Provider(Protocol):
    """A source of model answers. Implementations hold no state between calls and are safe to share by threads."""

    name: str

    def missing(self) -> str | None:
        """What must be set before it can be used ("set ANTHROPIC_API_KEY"), None where nothing is. Never blocks."""

    def models(self) -> list[str]:
        """Names of the models known to be usable, without the provider's prefix. Never blocks, may be empty."""

    def stream(self, request: ModelRequest, cancel: Cancel) -> Iterator[Delta]:
        """Ask the model once, and give its answer as it comes.

        Ends normally only after the model has finished: a `Finish` is the last item, and at least one `Usage`
        stands before it where the provider reports usage. A `ToolCall` is given when its arguments are whole.
        Nothing is retried here: the loop decides, and shows it.

        Raises:
            ProviderError: whatever went wrong, before or after the first item; a stream that breaks off
                half-way is `PROVIDER_UNAVAILABLE` and retryable. The message holds no secret.
            Cancelled: soon after `cancel` is turned; the connection is closed by then.
        """

    def close(self) -> None:
        """Let go of connections. The provider is not used afterwards."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model of a provider; `str()` gives the name that clients see."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Models(Protocol):
    """The models that can be asked, by the names that clients write."""

    def resolve(self, name: str | None) -> ModelRef:
        """Find the model that `name` means; None is the default. InvalidRequest lists what is usable."""

    def usable(self) -> list[ModelInfo]:
        """All models known to be usable, the default among them."""

    def provider(self, name: str) -> Provider:
        """The provider of this name; InvalidRequest where there is none."""
