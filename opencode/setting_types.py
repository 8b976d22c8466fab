"""The types of settings: how each is read from the text of a variable."""

import json
import re
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from opencode.origins import origin

_ON = {"on", "true", "yes", "1"}
_HOST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*", re.ASCII)
_OFF = {"off", "false", "no", "0"}


def _switch(value: Any) -> Any:
    if isinstance(value, str):
        if value.strip().lower() in _ON:
            return True
        if value.strip().lower() in _OFF:
            return False
    return value


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _pairs(value: Any) -> Any:
    """`name=value` pairs by comma, or a JSON object."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = {name.strip(): given.strip() for name, _, given in (item.partition("=") for item in _listed(value))}
    if not all(pairs.values()):
        raise ValueError("a pair has no value")
    return pairs


def _entries(value: Any) -> Any:
    """As `_listed`, with the empty ones: what is empty by a slip must not pass for absent."""
    return tuple(item.strip() for item in value.split(",")) if isinstance(value, str) else value


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text if text == "*" else origin(text) for text in values)


def _hosts(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_host, values))


def _host(text: str) -> str:
    """A name as it stands in a Host header, lower case, without its port; an address is one too."""
    name = text.lower().rstrip(".")
    if not _HOST_NAME.fullmatch(name):
        ip_address(name.strip("[]"))  # a ValueError where it is none
    return name


Switch = Annotated[bool, BeforeValidator(_switch)]
Entries = Annotated[tuple[str, ...], BeforeValidator(_entries)]
Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_origins)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_hosts)]
Address = Annotated[str, AfterValidator(origin)]
Rules = Annotated[dict[str, Literal["allow", "ask", "deny"]], BeforeValidator(_pairs)]
Pairs = Annotated[dict[str, str], BeforeValidator(_pairs)]
