"""What the server says when it stands."""

from opencode.settings import Settings
from opencode.version import VERSION
from opencode.wiring import Services

_JSON_HEADER = "-H 'Content-Type: application/json'"
#: Addresses of which `localhost` is one.
_EVERYWHERE = {"127.0.0.1", "::1", "0.0.0.0", "::"}  # noqa: S104 - compared only
_FIRST = '{"content": "start"}'


def address(settings: Settings, port: int) -> str:
    """Where people find the page."""
    host = "localhost" if settings.host in _EVERYWHERE else settings.host
    host = f"[{host}]" if ":" in host else host
    return settings.public_url or f"http://{host}:{port}"


def banner(services: Services, *, port: int, token: str | None, code: str | None = None) -> str:
    """Address, directory, model with the reason for it, access, and a first turn to copy.

    `token` is a new one; `code` signs a browser in, once.
    """
    settings = services.settings
    url = address(settings, port)
    auth = "" if not settings.auth_on else f" -H 'Authorization: Bearer {token or '<token>'}'"
    model = str(services.models.resolve(None))
    lines = [
        "",
        f"  OpenCode server {VERSION}",
        f"  address    {url}",
        f"  directory  {services.sessions.directories.default}",
        f"  model      {model} ({services.model_reason})",
        f"  data       {_data(settings)}",
        f"  sandbox    {services.sandbox}",
        f"  access     {_access(services, token)}",
        *([f"  sign in    {url}/#code={code} (in a browser, once, within 10 minutes)"] if code else []),
        "",
        f"  {_other_model(model)}",
        "",
        "  A first turn, from another terminal:",
        f'    S=$(curl -s{auth} -X POST {url}/api/session | sed \'s/.*"session_id":"\\([^"]*\\).*/\\1/\')',
        f"    curl -N{auth} {url}/api/session/$S/message {_JSON_HEADER} -d '{_FIRST}'",
        "",
        "",
    ]
    return "\n".join(lines)


def _data(settings: Settings) -> str:
    if settings.database_url is None:
        return str(settings.data_dir)
    scheme, _, place = settings.database_url.partition("://")
    return f"{scheme}://{place.rpartition('@')[2].partition('?')[0]}"  # without user, password and options


def _access(services: Services, token: str | None) -> str:
    if not services.settings.auth_on:
        return "this machine only, no token needed"
    if token is not None:
        return f"with the token {token} (new at each start; OPENCODE_AUTH_TOKENS sets lasting ones)"
    return "with one of the tokens in OPENCODE_AUTH_TOKENS"


def _other_model(model: str) -> str:
    if model == "demo/guide":
        return (
            "demo/guide is a built-in guide, no AI. For a model: set ANTHROPIC_API_KEY or OPENAI_API_KEY, or start"
            " Ollama."
        )
    return "Another model: OPENCODE_MODEL=provider/model; `opencode models` lists them."
