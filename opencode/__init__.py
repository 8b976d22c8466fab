"""An HTTP server that puts an AI coding agent behind sessions, turns and Server-Sent Events."""

from opencode import version

__version__ = version.VERSION

__all__ = ["__version__"]
