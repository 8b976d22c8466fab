"""Logging: one line each, readable or JSON, with the ids of what it is about, and never with a secret."""

import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import g, has_request_context

from opencode import telemetry
from opencode.settings import Settings

#: Secrets that no setting holds: tickets and codes in addresses, tokens that were made, keys that are wrong.
_SHAPES = re.compile(r"(?i)((?:ticket|token|code|api_?key)=|bearer\s+|\bsk-)[^\s&\"'\\]+")
#: A shorter one would hide ordinary words too; as a secret it is worth little.
_SECRET_CHARS = 6
Scrub = Callable[[str], str]


def scrub_of(settings: Settings) -> Scrub:
    """A function that hides the settings' secrets in a text, and what looks like one."""
    held: set[str] = set()
    for name, field in type(settings).model_fields.items():
        if not field.repr:
            value = getattr(settings, name) or ()
            entries = (value,) if isinstance(value, str) else value
            held |= {str(entry).rpartition(":")[2] for entry in entries} | {str(entry) for entry in entries}
    secrets = sorted((secret for secret in held if len(secret) >= _SECRET_CHARS), key=len, reverse=True)
    known = re.compile("|".join(map(re.escape, secrets))) if secrets else None

    def scrub(text: str) -> str:
        text = _SHAPES.sub(r"\1***", text)
        return known.sub("***", text) if known is not None else text

    return scrub


class _Context(logging.Filter):
    """Adds to each record the ids of what it is about."""

    def filter(self, record: logging.LogRecord) -> bool:
        data: dict[str, Any] = {**telemetry.ids(), **getattr(record, "data", {})}
        request_id = data.pop("request_id", None)
        if request_id is None:
            request_id = g.get("request_id", "-") if has_request_context() else "-"
        record.request_id, record.data = request_id, data
        return True


class _Text(logging.Formatter):
    """Nothing that is logged can begin a line of its own: control characters are written out, a trace is indented."""

    def __init__(self, scrub: Scrub) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        data = getattr(record, "data", {})
        ids = "".join(f" {name}={data[name]}" for name in ("session_id", "turn_id", "owner") if data.get(name))
        line = f"{record.levelname:7} {record.getMessage()}{ids} [{getattr(record, 'request_id', '-')}]"
        text = f"{self.formatTime(record, self.datefmt)} {self._scrub(_printable(line))}"
        if record.exc_info:
            trace = self._scrub(self.formatException(record.exc_info))
            text += "".join(f"\n  {_printable(own)}" for own in trace.splitlines())
        return text


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(own if own.isprintable() else own.encode("unicode_escape").decode() for own in text)


class _Json(logging.Formatter):
    def __init__(self, scrub: Scrub) -> None:
        super().__init__()
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._scrub(record.getMessage()),
            "request_id": getattr(record, "request_id", "-"),
            **getattr(record, "data", {}),
        }
        if record.exc_info:
            line["trace"] = self._scrub(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()


def set_up(settings: Settings) -> None:
    """Send the package's log to standard error; calling it again replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Context())
    scrub = scrub_of(settings)
    handler.setFormatter(_Json(scrub) if settings.log_format == "json" else _Text(scrub))
    logger = logging.getLogger("opencode")
    logger.handlers[:] = [handler]
    logger.setLevel(settings.log_level.upper())
    logger.propagate = False
