"""Times as the API writes them."""

from datetime import UTC, datetime


def timestamp() -> str:
    """Now, as RFC 3339 in UTC with milliseconds and `Z`; such texts sort by time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
