"""The provider `demo`."""

import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

from opencode.cancel import Cancel
from opencode.provider.port import Delta, ModelRequest


class Demo:
    """The built-in guide, which is no AI and says so.

    It understands plain requests and carries them out through the tools it is offered. Usage is an estimate: one
    token for four characters.

    Args:
        hint: a line that says how to connect a model.
        delay_s: pause between two pieces of text.
    """

    name = "demo"

    def __init__(self, *, hint: str, delay_s: float = 0.012) -> None:
        self._hint = hint
        self._delay_s = delay_s

    def missing(self) -> str | None:
        return None

    def models(self) -> list[str]:
        return ["guide"]

    def put_off(self) -> Iterator[Callable[[], object]]:
        """What its first answer would import, in pieces."""
        package = import_module(__package__)
        for found in pkgutil.iter_modules(package.__path__):
            yield partial(import_module, f"{__package__}.{found.name}")

    def stream(self, request: ModelRequest, cancel: Cancel) -> Iterator[Delta]:
        from opencode.provider.demo.guide import answer  # noqa: PLC0415 - neither a start nor a real model needs it

        yield from answer(request, cancel, hint=self._hint, delay_s=self._delay_s)

    def close(self) -> None:
        """There is nothing to let go of."""
