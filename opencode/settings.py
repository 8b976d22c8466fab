"""The settings: read once, checked, and frozen.

Command line over environment over `opencode.toml` over defaults (API section 10). The command line hands its flags on
as environment variables, so that every way to start the server reads the same.
"""

import ipaddress
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from opencode import project_file
from opencode.errors import SettingsError
from opencode.setting_types import Address, Entries, Hosts, Listed, Origins, Pairs, Rules, Switch


def _env(name: str, default: Any, meaning: str, form: str, **limits: Any) -> Any:
    """A field with the variable that sets it, what it means, and the form of its value."""
    return Field(default, description=meaning, json_schema_extra={"env": name, "form": form}, **limits)


class Settings(BaseModel):
    """All settings. Each field knows its variable, meaning and form; the reference in docs/ is compared with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = _env("OPENCODE_HOST", "localhost", "address to listen on", "a host name or address")
    port: int = _env(
        "PORT", 3000, "port to listen on", "a whole number up to 65535; 0 takes a free one", ge=0, le=65535
    )
    directory: Path | None = _env(
        "OPENCODE_DIRECTORY", None, "where new sessions work (default: where the server was started)", "a directory"
    )
    database_url: str | None = _env(
        "DATABASE_URL",
        None,
        "the store; without it SQLite under the data folder",
        "postgresql://user:password@host/database, or sqlite:////path/store.sqlite3",
        repr=False,
    )
    redis_url: str | None = _env(
        "REDIS_URL",
        None,
        "the bell between processes, and their limits",
        "redis://host:port/0, or rediss:// for TLS",
        repr=False,
    )
    turns: Literal["here", "worker"] = _env(
        "OPENCODE_TURNS", "here", "where turns run: in the server, or in `opencode worker`", "here or worker"
    )
    data_dir: Path = _env(
        "OPENCODE_DATA_DIR", Path(platformdirs.user_data_dir("opencode")), "the embedded store's place", "a folder"
    )
    durability: Literal["process", "power"] = _env(
        "OPENCODE_DURABILITY",
        "process",
        "what stored events survive: a killed process, or power loss too",
        "process or power",
    )
    project_roots: Listed = _env(
        "OPENCODE_PROJECT_ROOTS",
        (),
        "directories that sessions may use (default: where the server was started)",
        "directories, by comma",
    )
    model: str | None = _env("OPENCODE_MODEL", None, "the default model", "provider/model")
    model_aliases: Pairs = _env("OPENCODE_MODEL_ALIASES", {}, "further names for models", "name=provider/model,…")
    anthropic_api_key: str | None = _env("ANTHROPIC_API_KEY", None, "key for Anthropic's models", "a key", repr=False)
    anthropic_base_url: str | None = _env("ANTHROPIC_BASE_URL", None, "address of Anthropic's API", "a URL", repr=False)
    openai_api_key: str | None = _env("OPENAI_API_KEY", None, "key for OpenAI's models", "a key", repr=False)
    openai_base_url: str | None = _env(
        "OPENAI_BASE_URL", None, "address of an OpenAI-compatible API", "a URL", repr=False
    )
    provider_timeout_s: float = _env(
        "OPENCODE_PROVIDER_TIMEOUT_S", 120.0, "longest silence of a model's stream", "seconds", gt=0
    )
    script: Path | None = _env(
        "OPENCODE_SCRIPT", None, "a script that the provider `scripted` replays, for tests", "a JSON file"
    )
    auth: Switch | None = _env(
        "OPENCODE_AUTH", None, "ask for a token (default: on beyond loopback, and where tokens are set)", "on or off"
    )
    auth_tokens: Entries = _env(
        "OPENCODE_AUTH_TOKENS",
        (),
        "the tokens that let in",
        "token, name:token or name:scopes:token, by comma",
        repr=False,
    )
    secret_key: str | None = _env(
        "OPENCODE_SECRET_KEY",
        None,
        "the key that signs tickets and cookies (default: made once, kept in the store)",
        "at least 32 random characters",
        repr=False,
        min_length=32,
    )
    token: str | None = _env(
        "OPENCODE_TOKEN", None, "what `opencode run` and `opencode session` show a server", "a token", repr=False
    )
    allowed_hosts: Hosts = _env(
        "OPENCODE_ALLOWED_HOSTS", (), "further Host names", "host names without scheme, port and *, by comma"
    )
    public_url: Address | None = _env("OPENCODE_PUBLIC_URL", None, "the address that people use", "https://name[:port]")
    trusted_proxies: int = _env("OPENCODE_TRUSTED_PROXIES", 0, "forwarded hops to trust", "a whole number", ge=0, le=10)
    cors_origins: Origins = _env("OPENCODE_CORS_ORIGINS", (), "pages that may call", "https://name[:port], by comma")
    cors_methods: Listed = _env(
        "OPENCODE_CORS_METHODS", ("GET", "POST", "PATCH", "DELETE", "OPTIONS"), "methods for them", "methods, by comma"
    )
    cors_allowed_headers: Listed = _env(
        "OPENCODE_CORS_ALLOWED_HEADERS",
        ("Content-Type", "Authorization", "Idempotency-Key"),
        "headers for them",
        "header names, by comma",
    )
    cors_credentials: Switch = _env("OPENCODE_CORS_CREDENTIALS", False, "let them send cookies", "on or off")
    rate_limit: Switch = _env("OPENCODE_RATE_LIMIT", True, "rate limits and caps", "on or off")
    rate_limit_max_requests: int = _env(
        "OPENCODE_RATE_LIMIT_MAX_REQUESTS", 100, "requests a window, by owner and by address", "a whole number", gt=0
    )
    rate_limit_max_sessions: int = _env(
        "OPENCODE_RATE_LIMIT_MAX_SESSIONS", 10, "sessions created a window", "a whole number", gt=0
    )
    rate_limit_max_keys: int = _env(
        "OPENCODE_RATE_LIMIT_MAX_KEYS", 2000, "keys typed a window, by owner and by address", "a whole number", gt=0
    )
    rate_limit_window_ms: int = _env(
        "OPENCODE_RATE_LIMIT_WINDOW_MS", 60_000, "length of the window", "milliseconds, whole seconds", ge=1000
    )
    open_browser: Switch = _env(
        "OPENCODE_OPEN", False, "open the page in a browser when the server stands", "on or off"
    )
    max_streams: int = _env("OPENCODE_MAX_STREAMS", 100, "open streams an owner", "a whole number", gt=0)
    max_turns: int = _env("OPENCODE_MAX_TURNS", 20, "running turns an owner", "a whole number", gt=0)
    max_body_bytes: int = _env("OPENCODE_MAX_BODY_BYTES", 1_000_000, "largest body of a request", "bytes", ge=1024)
    body_timeout_s: float = _env(
        "OPENCODE_BODY_TIMEOUT_S", 30.0, "how long the body of a request may take to come", "seconds", gt=0
    )
    shared_shell: Switch = _env(
        "OPENCODE_SHARED_SHELL",
        False,
        "owners trust one another: each one's `bash` reaches the others' files",
        "on or off",
    )
    sandbox: Literal["off", "auto", "require"] = _env(
        "OPENCODE_SANDBOX", "off", "run commands in bubblewrap: where it works, or not at all", "off, auto or require"
    )
    sandbox_network: Switch = _env("OPENCODE_SANDBOX_NETWORK", True, "a network for commands in it", "on or off")
    sandbox_readable: Listed = _env(
        "OPENCODE_SANDBOX_READABLE", (), "what such commands may read besides", "paths, by comma"
    )
    permission: Rules = _env(
        "OPENCODE_PERMISSION",
        {},
        "what tools may do; sessions can only be stricter",
        "tool=allow|ask|deny pairs, or a JSON object",
    )
    permission_timeout_s: float = _env(
        "OPENCODE_PERMISSION_TIMEOUT_S", 600.0, "how long a permission request waits", "seconds", gt=0
    )
    max_steps: int = _env("OPENCODE_MAX_STEPS", 100, "calls of the model in a turn", "a whole number", gt=0)
    max_tokens: int = _env("OPENCODE_MAX_TOKENS", 5_000_000, "tokens in a turn, in and out", "a whole number", gt=0)
    turn_timeout_s: float = _env("OPENCODE_TURN_TIMEOUT_S", 3600.0, "seconds of a turn", "seconds", gt=0)
    budget_tokens: int | None = _env(
        "OPENCODE_BUDGET_TOKENS", None, "tokens that an owner may spend in all, in and out", "a whole number", gt=0
    )
    budget_seconds: float | None = _env(
        "OPENCODE_BUDGET_SECONDS", None, "seconds that an owner's turns may take in all", "seconds", gt=0
    )
    session_budget_tokens: int | None = _env(
        "OPENCODE_SESSION_BUDGET_TOKENS", None, "tokens that a session may spend, in and out", "a whole number", gt=0
    )
    session_budget_seconds: float | None = _env(
        "OPENCODE_SESSION_BUDGET_SECONDS", None, "seconds that a session's turns may take", "seconds", gt=0
    )
    lease_s: float = _env(
        "OPENCODE_LEASE_S", 15.0, "how long a turn's owner may be silent before another takes over", "seconds", gt=0
    )
    max_attempts: int = _env(
        "OPENCODE_MAX_ATTEMPTS",
        3,
        "how often a server may die under a turn before it is given up",
        "a whole number",
        gt=0,
    )
    pump: Switch = _env(
        "OPENCODE_PUMP", True, "streams share their writes; off makes each a plain generator", "on or off"
    )
    webhook_urls: Listed = _env("OPENCODE_WEBHOOK_URLS", (), "who is told of turns and requests", "URLs, by comma")
    webhook_secret: str | None = _env("OPENCODE_WEBHOOK_SECRET", None, "signs webhooks", "whsec_…", repr=False)
    webhook_allow: Listed = _env(
        "OPENCODE_WEBHOOK_ALLOW", (), "non-public receivers of webhooks", "host names or networks, by comma"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _env(
        "OPENCODE_LOG_LEVEL", "info", "what is logged", "debug, info, warning or error"
    )
    log_format: Literal["text", "json"] = _env("OPENCODE_LOG_FORMAT", "text", "how it is logged", "text or json")

    @property
    def on_postgresql(self) -> bool:
        """Whether the store is one that several processes can use."""
        return (self.database_url or "").startswith("postgres")

    @property
    def several_processes(self) -> bool:
        """Whether there may be others that work on the same store."""
        return self.on_postgresql and self.redis_url is not None

    @property
    def auth_on(self) -> bool:
        """Whether a token is asked for."""
        return self.auth if self.auth is not None else bool(self.auth_tokens) or not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener at `host`."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def variable(field: FieldInfo) -> str:
    """The environment variable that sets a field."""
    return str(_extra(field)["env"])


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def environment() -> MutableMapping[str, str]:
    """The process's environment; nothing else reads it."""
    return os.environ  # noqa: TID251 - the one place


def load(environ: Mapping[str, str], *, directory: Path | None = None) -> tuple[Settings, list[str]]:
    """Read the settings from `opencode.toml` in `directory` and from `environ`, and what there is to warn of.

    `directory` is by default the served one: `OPENCODE_DIRECTORY`, else the current one.

    Raises:
        SettingsError: a value is malformed; the message names the setting, its form and where it was set.
    """
    known = {variable(field): name for name, field in Settings.model_fields.items()}
    folder = directory or Path(environ.get("OPENCODE_DIRECTORY") or Path.cwd())
    values, warnings = project_file.read(folder / project_file.NAME, {name: own for own, name in known.items()})
    sources = {name: f"{name} in {project_file.NAME}" for name in values}
    for variable_name, text in environ.items():
        if variable_name in known and text != "":
            values[known[variable_name]] = text
            sources[known[variable_name]] = variable_name
        elif variable_name.startswith("OPENCODE_") and variable_name not in known:
            warnings.append(f"{variable_name} is not a setting of this version; it has no effect.")
    try:
        return Settings(**values), warnings
    except ValidationError as exc:
        raise SettingsError(explain(exc, values, sources)) from None


def explain(exc: ValidationError, values: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """What is wrong with the first wrong value, and what would be right; `sources` says where each was set."""
    name = str(exc.errors()[0]["loc"][0])
    field = Settings.model_fields[name]
    given = "***" if not field.repr else repr(values[name])
    default = f" Its default is {field.default}." if field.default not in (None, (), {}) else ""
    return (
        f"{sources[name]} must be {_extra(field)['form']} ({field.description}), not {given}."
        f"{default} Correct it, or unset it."
    )
