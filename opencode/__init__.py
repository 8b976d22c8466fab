"""An HTTP server that puts an AI coding agent behind sessions, turns and Server-Sent Events."""

from typing import TYPE_CHECKING, Any

from opencode import version

if TYPE_CHECKING:
    from opencode.server.server import Server

__version__ = version.VERSION

__all__ = ["Server", "__version__"]


def __getattr__(name: str) -> Any:
    """`Server` is imported when it is asked for: whoever wants the version only need not load Flask."""
    if name != "Server":
        raise AttributeError(f"module 'opencode' has no attribute {name!r}")
    from opencode.server.server import Server  # noqa: PLC0415 - see above

    return Server
