"""`opencode.toml` in the served directory."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opencode.errors import SettingsError

NAME = "opencode.toml"
#: What it may not set: the agent itself can write that file.
NOT_FROM_PROJECT = frozenset(
    {
        "allowed_hosts",
        "anthropic_api_key",
        "anthropic_base_url",
        "auth",
        "auth_tokens",
        "body_timeout_s",
        "budget_seconds",
        "budget_tokens",
        "cors_credentials",
        "cors_origins",
        "data_dir",
        "database_url",
        "directory",
        "host",
        "max_body_bytes",
        "max_steps",
        "max_streams",
        "max_tokens",
        "max_turns",
        "openai_api_key",
        "openai_base_url",
        "permission",
        "project_roots",
        "public_url",
        "rate_limit",
        "rate_limit_max_keys",
        "rate_limit_max_requests",
        "rate_limit_max_sessions",
        "rate_limit_window_ms",
        "sandbox",
        "sandbox_network",
        "sandbox_readable",
        "script",
        "secret_key",
        "session_budget_seconds",
        "session_budget_tokens",
        "shared_shell",
        "token",
        "trusted_proxies",
        "webhook_allow",
        "webhook_secret",
        "webhook_urls",
    }
)


def read(path: Path, variables: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that the file holds, and what there is to warn of. `variables` names each setting's variable.

    Raises:
        SettingsError: it cannot be read, or sets what it may not.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{path} is not valid TOML: {exc}") from None
    closed = sorted(NOT_FROM_PROJECT & values.keys())
    if closed:
        raise SettingsError(
            f"{path}: {closed[0]} cannot be set here, since tools can write this file."
            f" Set {variables[closed[0]]} in the environment instead."
        )
    known = {name: value for name, value in values.items() if name in variables}
    unknown = sorted(values.keys() - known.keys())
    return known, [f"{path}: {name} is not a setting of this version; it has no effect." for name in unknown]
