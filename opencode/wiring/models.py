"""Which models can be asked, and by whom: the providers that the settings call for."""

from collections.abc import Callable, Iterator, Mapping

from opencode.errors import InvalidRequest, SettingsError
from opencode.provider.anthropic import Anthropic
from opencode.provider.demo import Demo
from opencode.provider.discovery import LocalServer, find_local_servers
from opencode.provider.models import ModelNames, choose_default
from opencode.provider.openai import OpenAI
from opencode.provider.port import Provider
from opencode.settings import Settings


def find_models(settings: Settings, given: Mapping[str, Provider] | None = None) -> tuple[ModelNames, str]:
    """The models that can be asked, and the reason for the default one.

    Raises:
        SettingsError: the default model that is set cannot be resolved.
    """
    local = [] if given is not None else find_local_servers()
    name, reason = choose_default(
        settings.model,
        anthropic_key=settings.anthropic_api_key is not None,
        openai_key=settings.openai_api_key is not None,
        local=local[0] if local else None,
    )
    providers = dict(given) if given is not None else _providers(settings, local)
    models = ModelNames(providers, settings.model_aliases, name)
    try:
        models.resolve(None)
    except InvalidRequest as exc:
        raise SettingsError(f"OPENCODE_MODEL: {exc.message}") from None
    return models, reason


def _providers(settings: Settings, local: list[LocalServer]) -> dict[str, Provider]:
    timeout_s = settings.provider_timeout_s
    found: dict[str, Provider] = {
        "anthropic": Anthropic(
            api_key=settings.anthropic_api_key, base_url=settings.anthropic_base_url, timeout_s=timeout_s
        ),
        "openai": OpenAI(api_key=settings.openai_api_key, base_url=settings.openai_base_url, timeout_s=timeout_s),
    }
    for server in local:
        found[server.name] = OpenAI(
            name=server.name,
            api_key=None,
            base_url=server.base_url,
            timeout_s=timeout_s,
            models=server.models,
            requires_key=False,
        )
    found["demo"] = Demo(hint=_hint(local))
    if settings.script is not None:
        from opencode.provider.scripted import Scripted  # noqa: PLC0415 - for tests only

        found["scripted"] = Scripted.from_file(settings.script)
    return found


def _hint(local: list[LocalServer]) -> str:
    if local and local[0].models:
        model = f"{local[0].name}/{local[0].models[0]}"
        return f"{local[0].label} answers here: start the server with OPENCODE_MODEL={model} to talk to a real model."
    return "For a real model set ANTHROPIC_API_KEY or OPENAI_API_KEY, or start Ollama, and restart the server."


def warm(models: ModelNames) -> None:
    """Import the SDKs that can be asked: it takes up to a second in which no stream moves, so before there are any."""
    for provider in models.providers.values():
        if isinstance(provider, Anthropic | OpenAI) and provider.missing() is None:
            provider.warm()


def put_off(models: ModelNames) -> Iterator[Callable[[], object]]:
    """What the first turn of the default model would import, in pieces."""
    provider = models.providers.get(models.resolve(None).provider)
    if isinstance(provider, Demo):
        yield from provider.put_off()
