"""Logging: one line each, readable or JSON, with the request's id where there is one."""

import logging
import re
import sys
from datetime import UTC, datetime

import orjson
from flask import g, has_request_context

from opencode.settings import Settings

#: A ticket lets in for hours, and stands in the address, which servers log.
_TICKET = re.compile(r"(ticket(?:=|%3[Dd]))[^&\s\"']+")
#: Who writes addresses: the access logs of gunicorn and of Werkzeug's server.
_ADDRESS_LOGS = ("gunicorn.access", "gunicorn.error", "werkzeug")


class _Redaction(logging.Filter):
    """Takes tickets out of a line."""

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        if "ticket" in line:
            record.msg, record.args = _TICKET.sub(r"\1***", line), ()
        return True


_REDACTION = _Redaction()


def redact_tickets() -> None:
    """Keep tickets out of the logs that are not ours; calling it again changes nothing."""
    for name in _ADDRESS_LOGS:
        logging.getLogger(name).addFilter(_REDACTION)


class _Context(logging.Filter):
    """Adds `request_id` to each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = g.get("request_id", "-") if has_request_context() else "-"
        return True


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", "-"),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def set_up(settings: Settings) -> None:
    """Send the package's log to standard error; calling it again replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Context())
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s [%(request_id)s]", "%Y-%m-%dT%H:%M:%S")
    handler.setFormatter(_Json() if settings.log_format == "json" else text)
    logger = logging.getLogger("opencode")
    logger.handlers[:] = [handler]
    logger.setLevel(settings.log_level.upper())
    logger.propagate = False
