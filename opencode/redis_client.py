"""How each part reaches Redis or Valkey: one reading of `REDIS_URL`, and one way to say what is wrong with it."""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opencode.errors import SettingsError

_FORM = "REDIS_URL must be redis://host:port/0, or rediss:// for TLS"
_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
#: Options of the address that name files.
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def connect(url: str, *, timeout_s: float) -> Any:
    """A client of redis-py, which connects when it is first used; options of TLS stand in the address, as it has them.

    `timeout_s` is how long it waits for a connection and for each answer; it tries nothing twice.

    Raises:
        SettingsError: the address is malformed, has an option that is none, or names a file that is not there.
    """
    from redis import Redis, RedisError  # noqa: PLC0415 - where it is not used it need not be loaded

    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES:
        raise SettingsError(_FORM)
    try:
        client = Redis.from_url(
            f"{_SCHEMES[scheme]}://{rest}",
            protocol=2,  # which all servers speak, and which puts what is published among the answers
            retry=None,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
        client.connection_pool.make_connection()  # it reads the options, and sends nothing
    except (ValueError, TypeError, RedisError) as exc:
        raise SettingsError(_FORM + _wrong_option(url, exc)) from exc
    for name in _FILES:
        file = client.connection_pool.connection_kwargs.get(name)
        if file and not Path(file).is_file():
            raise SettingsError(f"REDIS_URL: {name}={file} is no file. Name one, or leave the option out.")
    return client


def failures() -> tuple[type[Exception], ...]:
    """What a client raises where Redis is out of reach."""
    from redis import RedisError  # noqa: PLC0415 - as above

    return RedisError, OSError


def _wrong_option(url: str, exc: Exception) -> str:
    """What is wrong with an option; its value may be a secret."""
    options = [pair.partition("=")[0] for pair in urlsplit(url).query.split("&") if pair]
    wrong = next((name for name in options if name in str(exc)), None)
    named = wrong or ("" if isinstance(exc, ValueError) else ", ".join(options))
    return f"; the option {named} is not understood" if named else ""


def problem(exc: Exception) -> str:
    """What keeps Redis out of reach, in one line; where it is TLS, with the way out."""
    found = _tls_failure(exc)
    if isinstance(found, ssl.SSLCertVerificationError):
        if "match" in found.verify_message:
            return f"{found.verify_message} Use the name that the certificate has in REDIS_URL."
        return (
            f"its certificate is not trusted ({found.verify_message}). Name the authority that signed it:"
            " REDIS_URL=rediss://…?ssl_ca_certs=/path/ca.pem"
        )
    if isinstance(found, ssl.SSLError):
        return f"TLS failed: {found.reason or found}. Without TLS the address is redis://…"
    return " ".join(str(exc).split()) or type(exc).__name__


def is_untrusted(exc: Exception) -> bool:
    """Whether the server's certificate is the reason: no waiting mends that."""
    return isinstance(_tls_failure(exc), ssl.SSLCertVerificationError)


def _tls_failure(exc: Exception) -> ssl.SSLError | None:
    """What redis-py has wrapped."""
    found: BaseException | None = exc
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__ or found.__context__
    return found
