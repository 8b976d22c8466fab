"""Imports an SDK without the catalogue of types that it never needs here.

The packages below `openai.types` hold a module for each type of an API of which we use one operation, by its raw
answer; their `__init__` imports them all, which is most of what the SDK costs in time and memory. Within
`types_on_demand` such a package is imported without its `__init__`, and that runs when something is asked of it.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


@contextmanager
def types_on_demand(root: str) -> Iterator[None]:
    """Within it the package `root` and those below it are imported so; what is imported already stays as it is."""
    finder = _Finder(root)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    def __init__(self, root: str) -> None:
        self._root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._root and not fullname.startswith(f"{self._root}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None and spec.submodule_search_locations is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real
        self._running: set[int] = set()

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _Package

    def run(self, module: ModuleType) -> None:
        """Run the package's `__init__`. Two threads may both do so, as it only imports: a lock could deadlock."""
        me = threading.get_ident()
        if me in self._running:
            return  # it asks for what it is about to import
        self._running.add(me)
        try:
            self._real.exec_module(module)
        finally:
            self._running.discard(me)
        module.__class__ = ModuleType


class _Package(ModuleType):
    """Looks like the package and has its modules; anything else runs its `__init__` first."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if spec is not None and isinstance(spec.loader, _Loader):
            spec.loader.run(self)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def __dir__(self) -> list[str]:
        getattr(self, "__all__", None)
        return list(self.__dict__)
