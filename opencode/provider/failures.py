"""What providers' failures mean to us. The one place that turns an SDK's exceptions into our tree.

The SDKs of Anthropic and OpenAI come from one generator and raise the same classes, each its own; so the SDK's module
is passed in, and nothing is imported here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from opencode.errors import ProviderError
from opencode.provider.http import retry_after_s
from opencode.sse_reader import SseError

_MAX_MESSAGE = 300
_STATUS_OVERLOADED = 529

# Each provider says it in its own words, and in others next year.
_OVERFLOW = re.compile(
    r"context[ _-]?(length|window|size)|maximum context|prompt is too long|too many (input )?tokens"
    r"|(input|prompt|request).{0,40}(too long|too large|exceeds?\b.{0,40}\btokens)|n_ctx",
    re.IGNORECASE,
)
# What a body says in its `type` or `code`, also in the middle of a stream, where there is no status.
_STATUS_OF_KIND = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "billing_error": 402,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "context_length_exceeded": 413,
    "exceed_context_size_error": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "timeout_error": 504,
    "overloaded_error": _STATUS_OVERLOADED,
    "service_unavailable": 503,
    "invalid_request_error": 400,
}
_SECRETS = (
    (re.compile(r"\b(sk|pk|key|gsk|xai)-[\w*.-]{4,}"), r"\1-***"),
    (re.compile(r"(?i)\bbearer\s+\S+"), "Bearer ***"),
    (re.compile(r"://[^/\s@]+@"), "://***@"),
)
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]+>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """Who is asked: for messages that say what to do. `secret` is taken out of whatever is shown."""

    label: str
    key_variable: str
    secret: str | None = None
    base_url: str | None = None

    def __str__(self) -> str:
        """Name it, and the host where that is not the usual one; never the credentials that an address may hold."""
        return f"{self.label} ({urlsplit(self.base_url).netloc.rpartition('@')[2]})" if self.base_url else self.label

    def clean(self, text: str) -> str:
        """Make a foreign text fit to be shown: no secret, no markup, one line, not long."""
        if self.secret:
            text = text.replace(self.secret, "***")
        for pattern, replacement in _SECRETS:
            text = pattern.sub(replacement, text)
        text = " ".join(_TAGS.sub(" ", text).split())
        return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"


def from_exception(source: Source, sdk: ModuleType, exc: Exception) -> ProviderError | None:
    """Translate what an SDK, or httpx under it, or the reading of their bytes raised; None for what is not theirs."""
    if isinstance(exc, (SseError, msgspec.DecodeError)):
        return malformed(source, str(exc))
    if isinstance(exc, sdk.APIStatusError):
        headers = exc.response.headers
        return from_body(source, exc.body or exc.response.text, status=exc.status_code, headers=headers)
    if isinstance(exc, sdk.APITimeoutError) or _is_timeout(exc):
        return _unavailable(f"{source} did not answer in time.")
    if isinstance(exc, sdk.APIConnectionError):
        cause = exc.__cause__ or exc
        return _unavailable(f"{source} cannot be reached: {source.clean(str(cause))}")
    if _is_httpx(exc) or isinstance(exc, OSError):
        return _unavailable(f"The connection to {source} broke off: {source.clean(str(exc))}")
    return None


def from_body(
    source: Source, body: object, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> ProviderError:
    """Translate an answer of 400 or above, or an error that came within a stream (then there is no status)."""
    kinds, message = _read_body(body)
    if status is None:
        status = next((_STATUS_OF_KIND[kind] for kind in kinds if kind in _STATUS_OF_KIND), 500)
        shown = kinds[0] if kinds else "error"
    else:
        shown = str(status)
    told = f" ({shown}): {source.clean(message)}" if message else f" ({shown})"
    wait_s = retry_after_s(headers or {})
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _overflows(status, kinds, message):
        return ProviderError(f"The conversation is too long for the model{told}", code="CONTEXT_OVERFLOW")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return ProviderError(f"{source} refused the key{told} Check {source.key_variable}.", code="PROVIDER_AUTH")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        spent = "insufficient_quota" in kinds
        return ProviderError(
            f"{source} {'has no quota left for this key' if spent else 'limits requests now'}{told}",
            code="PROVIDER_RATE_LIMIT",
            retryable=not spent,
            retry_after_s=wait_s,
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return _unavailable(f"{source} is not available{told}", wait_s)
    return ProviderError(f"{source} refused the request{told}", code="PROVIDER_ERROR")


def cut_stream(source: Source) -> ProviderError:
    """A stream that ended before the model had."""
    return _unavailable(f"{source} broke off the answer before its end.")


def malformed(source: Source, what: str) -> ProviderError:
    """An answer that cannot be read."""
    return ProviderError(f"{source} sent what cannot be read: {source.clean(what)}", code="PROVIDER_ERROR")


def declined(source: Source, reason: str) -> ProviderError:
    """A filter of the provider ended the answer: said aloud, since what stands so far may be nothing."""
    return ProviderError(f"{source} declined to answer ({source.clean(reason)})", code="PROVIDER_ERROR")


def _unavailable(message: str, wait_s: float | None = None) -> ProviderError:
    return ProviderError(message, code="PROVIDER_UNAVAILABLE", retryable=True, retry_after_s=wait_s)


def _overflows(status: int, kinds: list[str], message: str) -> bool:
    if "context_length_exceeded" in kinds or "exceed_context_size_error" in kinds:
        return True
    return status == HTTPStatus.BAD_REQUEST and bool(_OVERFLOW.search(message))


def _read_body(body: object) -> tuple[list[str], str]:
    """Find the kind and the message: `{"error": {…}}`, its inside, `{"error": "…"}`, `{"detail": …}`, or text."""
    if isinstance(body, dict):
        inner: Any = body.get("error", body)
        if isinstance(inner, dict):
            kinds = [kind for kind in (inner.get("code"), inner.get("type")) if isinstance(kind, str)]
            message = inner.get("message") or inner.get("detail") or ""
            return kinds, message if isinstance(message, str) else str(message)
        return [], str(inner)
    return [], str(body)


def _is_httpx(exc: Exception) -> bool:
    return any(cls.__module__.startswith(("httpx2", "httpcore2")) for cls in type(exc).__mro__)


def _is_timeout(exc: Exception) -> bool:
    return any(cls.__name__ == "TimeoutException" for cls in type(exc).__mro__) and _is_httpx(exc)
