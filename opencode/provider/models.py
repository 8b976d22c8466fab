"""Model names: what a client may write, and which provider's model it means."""

from collections.abc import Mapping
from types import MappingProxyType

from opencode.errors import InvalidRequest
from opencode.provider.discovery import LocalServer
from opencode.provider.port import ModelRef, Provider
from opencode.records import ModelInfo

SONNET = "anthropic/claude-sonnet-5-5"
GPT = "openai/gpt-6.2-sol"
GUIDE = "demo/guide"

# Old names go on working: clients and their configuration outlive models.
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(["sonnet", "claude-3-sonnet", "claude-3.5-sonnet", "claude-3-5-sonnet"], SONNET),
        **dict.fromkeys(["claude-3.7-sonnet", "claude-3-7-sonnet", "claude"], SONNET),
        **dict.fromkeys(["opus", "claude-3-opus"], "anthropic/claude-opus-5-5"),
        **dict.fromkeys(["haiku", "claude-3-haiku"], "anthropic/claude-haiku-5-5"),
        **dict.fromkeys(["claude-3.5-haiku", "claude-3-5-haiku"], "anthropic/claude-haiku-5-5"),
        **dict.fromkeys(["gpt", "gpt-4", "gpt-4-turbo", "gpt-4o"], GPT),
        **dict.fromkeys(["gpt-3.5-turbo", "gpt-4o-mini"], "openai/gpt-6-luna"),
    }
)
_PREFIXES = (
    ("claude-", "anthropic"),
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
)
# Whose models are all our own: a name that is not listed does not exist.
_CLOSED = frozenset({"demo"})


class ModelNames:
    """Resolves names against the providers that are wired."""

    def __init__(self, providers: Mapping[str, Provider], aliases: Mapping[str, str], default: str) -> None:
        self.providers = providers
        self._aliases = {**_ALIASES, **aliases}
        self._default = default

    def resolve(self, name: str | None) -> ModelRef:
        """Find the model that `name` means; None is the default.

        Raises:
            InvalidRequest: no provider has it; the message lists what is usable.
        """
        asked = self._default if name is None else name
        ref = self._find(asked)
        if ref is None:
            raise self._unknown(asked)
        return ref

    def usable(self) -> list[ModelInfo]:
        """List the models of all providers, the default among them wherever it comes from."""
        default = self._find(self._default)
        refs = [ModelRef(name, model) for name, provider in self.providers.items() for model in provider.models()]
        if default is not None and default not in refs:
            refs.insert(0, default)
        return [self._info(ref, default=ref == default) for ref in refs]

    def _find(self, name: str) -> ModelRef | None:
        target = self._aliases.get(name, name)
        return self._qualified(target) or self._listed(target) or self._prefixed(target)

    def provider(self, name: str) -> Provider:
        """See `port.Models.provider`."""
        if name not in self.providers:
            raise InvalidRequest(f"Unknown provider: {name[:100]}. There are: {', '.join(self.providers)}.")
        return self.providers[name]

    def _info(self, ref: ModelRef, *, default: bool) -> ModelInfo:
        missing = self.providers[ref.provider].missing()
        return ModelInfo(str(ref), ref.provider, ref.model, missing is None, missing, default)

    def _qualified(self, name: str) -> ModelRef | None:
        provider, slash, model = name.partition("/")
        if not slash or not model.strip() or provider not in self.providers:
            return None
        if provider in _CLOSED and model not in self.providers[provider].models():
            return None
        return ModelRef(provider, model)

    def _listed(self, name: str) -> ModelRef | None:
        """Before the prefixes: a local server's `gpt-oss` is not OpenAI's."""
        owners = (own for own, provider in self.providers.items() if name in provider.models())
        return next((ModelRef(own, name) for own in owners), None)

    def _prefixed(self, name: str) -> ModelRef | None:
        owners = (own for prefix, own in _PREFIXES if name.startswith(prefix) and own in self.providers)
        return next((ModelRef(own, name) for own in owners), None)

    def _unknown(self, name: str) -> InvalidRequest:
        models = self.usable()
        ready = [model.id for model in models if model.configured] or [model.id for model in models]
        anything = [f"{own}/<model>" for own in self.providers if own not in _CLOSED]
        return InvalidRequest(
            f"Unknown model: {name[:100]}. Usable: {', '.join([*ready, *anything])}.",
            details=[{"field": "model", "message": "unknown model", "usable": ready}],
        )


def choose_default(
    configured: str | None, *, anthropic_key: bool, openai_key: bool, local: LocalServer | None
) -> tuple[str, str]:
    """Choose the model for sessions that name none, and say in one line why it is that one."""
    if configured:
        return configured, "OPENCODE_MODEL or --model names it"
    if anthropic_key:
        return SONNET, "ANTHROPIC_API_KEY is set"
    if openai_key:
        return GPT, "OPENAI_API_KEY is set"
    if local is not None and local.models:
        return f"{local.name}/{local.models[0]}", f"{local.label} answers on {local.address}"
    return GUIDE, "no key and no local model server found"
