"""From what `Server(...)` is called with to settings. Keys may be in snake_case or in camelCase (API section 9)."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from opencode.errors import SettingsError
from opencode.server.access import check_access
from opencode.settings import Settings, environment, explain, is_loopback, load

#: For each group of options, its keys and the settings that they are.
_GROUPS: dict[str, dict[str, str]] = {
    "cors": {
        "origin": "cors_origins",
        "methods": "cors_methods",
        "allowed_headers": "cors_allowed_headers",
        "credentials": "cors_credentials",
    },
    "auth": {"enabled": "auth", "tokens": "auth_tokens", "handler": "handler"},
    "rate_limit": {
        "enabled": "rate_limit",
        "max_requests": "rate_limit_max_requests",
        "max_sessions": "rate_limit_max_sessions",
        "window_ms": "rate_limit_window_ms",
    },
}
#: Groups that can be switched as a whole, by True and False.
_SWITCHES = {"auth", "rate_limit"}
AuthHandler = Callable[[str], Any]


def read(options: Mapping[str, Any]) -> tuple[Settings, list[str], AuthHandler | None]:
    """The settings that these options make of the environment's, what there is to warn of, and the token handler.

    Options go before the environment and `opencode.toml`; one that is None counts as not given.

    Raises:
        SettingsError: an option is unknown, malformed, or contradicts another.
    """
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, value in options.items():
        if value is not None:
            _take(_snake(key), value, given, sources)
    handler = given.pop("handler", None)
    if handler is not None and not callable(handler):
        raise SettingsError(f"Server(auth={{'handler': …}}) must be a function of the token, not {handler!r}.")
    directory = given.get("directory")
    settings, warnings = load(environment(), directory=Path(directory) if directory is not None else None)
    try:
        settings = Settings.model_validate({**settings.model_dump(), **given})
    except ValidationError as exc:
        raise SettingsError(explain(exc, given, sources)) from None
    _check(settings)
    return settings, warnings, handler


def _take(name: str, value: Any, given: dict[str, Any], sources: dict[str, str]) -> None:
    if name in _GROUPS:
        _take_group(name, value, given, sources)
    elif name == "token":
        # A setting of the commands that call a server; here it would be taken for one that is asked for.
        raise SettingsError(f"Server({name}=…) is not an option. Tokens are asked for by auth={{'tokens': […]}}.")
    elif name in Settings.model_fields:
        given[name] = value
        sources[name] = f"Server({name}=…)"
    else:
        raise _unknown(f"Server({name}=…)", name, {*_GROUPS, *Settings.model_fields} - {"token"})


def _take_group(group: str, value: Any, given: dict[str, Any], sources: dict[str, str]) -> None:
    known = _GROUPS[group]
    if isinstance(value, bool) and group in _SWITCHES:
        given[known["enabled"]] = value
        return
    if not isinstance(value, Mapping):
        switch = ", True or False" if group in _SWITCHES else ""
        raise SettingsError(f"Server({group}=…) must be a dict with keys of {', '.join(known)}{switch}.")
    if group in _SWITCHES:
        given[known["enabled"]] = True  # who sets it up wants it on; an `enabled` of its own goes before
    for key, own in value.items():
        name = _snake(str(key))
        if name not in known:
            raise _unknown(f"Server({group}={{{str(key)!r}: …}})", name, known)
        given[known[name]] = own
        sources[known[name]] = f"Server({group}={{{name!r}: …}})"


def _unknown(option: str, name: str, known: Iterable[str]) -> SettingsError:
    from difflib import get_close_matches  # noqa: PLC0415 - needed only where something is wrong

    close = get_close_matches(name, sorted(known), 1)
    hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(known))}."
    return SettingsError(f"{option} is not an option. {hint}")


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower()


def _check(settings: Settings) -> None:
    """What the other ways to start the server refuse, this one refuses too."""
    check_access(settings)
    if settings.auth is False and not is_loopback(settings.host):
        raise SettingsError(
            f"auth=False with host={settings.host!r} would let anyone who reaches it run commands here. Leave out"
            " auth=False, or listen at localhost."
        )
