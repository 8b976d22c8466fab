"""What a model sends as arguments: checked, and refused in words that it can act on."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from opencode.errors import ToolError

SHOWN_NAME_CHARS = 60

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is not a character") from None
    return text


def _usable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character")
    if not text:
        raise ValueError("is empty")
    return _whole(text)


#: Any text that can be written to a file.
Text = Annotated[str, AfterValidator(_whole)]
#: A text that can be handed to the operating system: a path, a command, a pattern.
Word = Annotated[str, AfterValidator(_usable)]


class Arguments(BaseModel):
    """What the arguments of every tool share."""

    # Made when they are first used: a start needs none of them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


A = TypeVar("A", bound=Arguments)


def parse(kind: type[A], params: Mapping[str, Any]) -> A:
    """Check a model's arguments.

    Raises:
        ToolError: one line that names each wrong argument and what is wrong with it.
    """
    # Models and their middlemen send other things than an object now and then.
    if not isinstance(params, Mapping):
        raise ToolError(f"The arguments must be an object, not {type(params).__name__}.")
    try:
        return kind.model_validate(dict(params))
    except ValidationError as exc:
        problems = [_problem(kind, error) for error in exc.errors(include_url=False)]
    raise ToolError(f"Wrong arguments: {'; '.join(problems[:8])}.")


def _problem(kind: type[Arguments], error: ErrorDetails) -> str:
    name = f"`{printable('.'.join(str(part) for part in error['loc']))[:SHOWN_NAME_CHARS]}`"
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not an argument of this tool, which takes {', '.join(kind.model_fields)}"
        case "value_error":
            return f"{name} {error['ctx']['error']}"
    return f"{name} {error['msg'].replace('Input should be', 'should be')}"


def schema(kind: type[Arguments]) -> dict[str, Any]:
    """The JSON Schema of the arguments, without what says nothing to a model."""
    whole = kind.model_json_schema()
    return {
        "type": "object",
        "properties": {name: _plain(field) for name, field in whole["properties"].items()},
        "required": whole.get("required", []),
        "additionalProperties": False,
    }


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """One property, where "may be left out" is said by `required` alone, not by a union with null."""
    options = [option for option in field.get("anyOf", []) if option != {"type": "null"}]
    kept = {key: value for key, value in field.items() if key not in {"title", "anyOf", "default"}}
    return kept | (options[0] if options else {})


def printable(text: str) -> str:
    """A file's name or another foreign text, safe on one line of a JSON document.

    Names on disk are bytes: what is not UTF-8 in them reaches us as lone surrogates, which no encoder takes.
    """
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
