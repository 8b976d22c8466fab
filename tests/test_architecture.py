"""The rules that keep the package navigable: each is a function from modules to complaints, with a proof that it bites.

An exception to a rule is a named line with a reason. The lists may only shrink: an exception that is no longer
needed fails as well.
"""

import ast
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent

FOUNDATION = {
    "cancel",
    "changes",
    "clock",
    "errors",
    "frames",
    "ids",
    "native",
    "openat",
    "opencode",
    "origins",
    "project_file",
    "records",
    "redis_client",
    "setting_types",
    "settings",
    "sse_reader",
    "telemetry",
    "undumpable",
    "version",
}
# What each layer may import. Of the packages of layer 2, "port" means their `port` modules only.
MAY_IMPORT = {
    "foundation": {"foundation"},
    "provider": {"foundation", "provider"},
    "tool": {"foundation", "tool"},
    "storage": {"foundation", "storage"},
    "bus": {"foundation", "bus"},
    "webhook": {"foundation", "webhook"},
    "session": {"foundation", "session", "port"},
    "confinement": {"foundation", "session", "tool"},
    "wiring": {
        *("foundation", "wiring", "confinement", "session", "port"),
        *("provider", "tool", "storage", "bus", "webhook"),
    },
    "server": {"foundation", "server", "session", "wiring"},
    "tui": {"foundation", "tui"},
    "client": {"foundation", "client"},
    "cli": {"foundation", "cli", "client", "tui", "server", "session", "wiring"},
}
PORT_PACKAGES = {"provider", "tool", "storage", "bus"}
# (importing module, imported module): reason
IMPORT_EXCEPTIONS: dict[tuple[str, str], str] = {
    ("opencode", "opencode.server.server"): "`from opencode import Server`; loaded when it is asked for",
}

# The implementations of each port: only wiring and their own parts name them. The other modules of a package are
# what its implementations share.
ADAPTERS = {
    "provider": {"anthropic", "openai", "demo", "scripted"},
    "tool": {"bash", "read", "write", "edit", "grep", "glob", "list"},
    "storage": {"sql"},
    "bus": {"memory", "polled", "redis"},
}

# Foreign package: the modules (or packages, with a dot at the end) that may import it.
CONFINED = {
    "flask": ("opencode.server.",),
    "itsdangerous": ("opencode.server.",),
    "flask_cors": ("opencode.server.",),
    "flask_limiter": ("opencode.server.",),
    "werkzeug": ("opencode.server.",),
    "wsproto": ("opencode.server.",),
    "gevent": (
        "opencode.server.pump",
        "opencode.server.gunicorn_conf",
        "opencode.server.listener",
        "opencode.server.worker",
    ),
    "anthropic": ("opencode.provider.",),
    "openai": ("opencode.provider.",),
    "sqlalchemy": ("opencode.storage.",),
    "psycopg": ("opencode.storage.",),
    "redis": ("opencode.redis_client",),
    "alembic": ("opencode.storage.",),
    "textual": ("opencode.tui.",),
}

FILE_LINES = 300
FUNCTION_LINES = 40
# "path" or "path::function": (limit, reason)
ALLOWED: dict[str, tuple[int, str]] = {}

BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}

# Module or package (with a dot at the end): why it may read the environment.
ENVIRONMENT_READERS = {
    "opencode.settings": "settings are read here, once",
    "opencode.cli.": "the command line passes its flags on through the environment",
}

# Modules that are run by another program and are not to be imported: reason.
NOT_IMPORTABLE = {
    "opencode.storage.migrations.env": "Alembic runs it inside its own context",
}


@dataclass(frozen=True)
class Module:
    """One source file and where it stands."""

    path: str  # relative to the repository, with forward slashes
    source: str

    @cached_property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @cached_property
    def package(self) -> str:
        return self.name if self.path.endswith("/__init__.py") else self.name.rpartition(".")[0]

    def imports(self, known: set[str]) -> Iterator[tuple[int, str]]:
        """Every imported module with its line, those inside functions and of `import_module` included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                source = self._absolute(node)
                for alias in node.names:
                    deeper = f"{source}.{alias.name}"
                    yield node.lineno, deeper if deeper in known else source
            elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
                for argument in node.args[:1]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield node.lineno, argument.value

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = self.package.split(".")
        start = ".".join(parents[: len(parents) - node.level + 1])
        return f"{start}.{node.module}" if node.module else start


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@cache  # parsed once for all rules
def package_modules() -> list[Module]:
    return _read(sorted((ROOT / "opencode").rglob("*.py")))


def all_modules() -> list[Module]:
    paths = [path for folder in ("opencode", "scripts", "tests", "bench") for path in (ROOT / folder).rglob("*.py")]
    return _read(sorted([*paths, *ROOT.glob("*.py")]))


def _read(paths: list[Path]) -> list[Module]:
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def layer(name: str) -> str:
    """The layer of a module of ours; empty where it has none."""
    parts = name.split(".")
    first = parts[1] if len(parts) > 1 else "opencode"
    if first == "__main__":
        return "cli"
    if first in FOUNDATION:
        return "foundation"
    return first if first in MAY_IMPORT else ""


def adapter(name: str) -> str:
    """The implementation that a module belongs to, as "provider.openai"; empty where it is none."""
    parts = name.split(".")
    is_one = len(parts) > 2 and parts[2] in ADAPTERS.get(parts[1], ())
    return ".".join(parts[1:3]) if is_one else ""


def _internal(modules: list[Module]) -> Iterator[tuple[Module, int, str]]:
    known = {module.name for module in modules}
    for module in modules:
        for line, target in module.imports(known):
            if target == "opencode" or target.startswith("opencode."):
                yield module, line, target


def imports_point_down(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        if not layer(module.name):
            yield f"{module.path}: this module has no layer; place it in MAY_IMPORT or FOUNDATION"
    unused = dict(IMPORT_EXCEPTIONS)
    for module, line, target in _internal(modules):
        own, other = layer(module.name), layer(target)
        allowed = MAY_IMPORT.get(own, set())
        is_port = other in PORT_PACKAGES and target.split(".")[2:3] == ["port"]
        if other in allowed or (is_port and "port" in allowed):
            continue
        if unused.pop((module.name, target), None) or (module.name, target) in IMPORT_EXCEPTIONS:
            continue
        yield f"{module.path}:{line}: {own or 'a module without a layer'} may not import {target}"
    for pair in unused:
        yield f"IMPORT_EXCEPTIONS[{pair}] is no longer needed: remove it"


def adapters_stand_alone(modules: list[Module]) -> Iterator[str]:
    for module, line, target in _internal(modules):
        own, other = adapter(module.name), adapter(target)
        if other and other != own and layer(module.name) != "wiring":
            yield f"{module.path}:{line}: only opencode/wiring.py and its own parts may name the adapter {other}"


def foreign_packages_stay_confined(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        for line, target in module.imports(set()):
            homes = CONFINED.get(target.split(".")[0])
            if homes and not _within(module.name, homes):
                yield f"{module.path}:{line}: {target} may be imported only in {', '.join(homes)}"


def _within(name: str, homes: tuple[str, ...] | dict[str, str]) -> bool:
    return any(name == home.rstrip(".") or (home.endswith(".") and name.startswith(home)) for home in homes)


def sizes_stay_in_budget(modules: list[Module]) -> Iterator[str]:
    unused = dict(ALLOWED)
    for module in modules:
        sizes = [(module.path, module.source.count("\n"), FILE_LINES)]
        sizes += [(f"{module.path}::{name}", lines, FUNCTION_LINES) for name, lines in _functions(module.tree)]
        for what, lines, limit in sizes:
            if lines <= limit:
                continue
            allowed, _reason = unused.pop(what, None) or (limit, "")
            if lines > allowed:
                yield f"{what}: {lines} lines, at most {allowed}"
    for what in unused:
        yield f"ALLOWED[{what!r}] is no longer needed: remove it"


def _functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every function with its lines from `def` to the end; the docstring does not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                docstring = node.body[0]
                lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
            yield node.name, lines


def names_say_what_is_inside(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        for part in Path(module.path).with_suffix("").parts:
            if part.strip("_") in BANNED_NAMES:
                yield f"{module.path}: a module named {part!r} says nothing about what is inside"


def no_import_cycles(modules: list[Module]) -> Iterator[str]:
    graph: dict[str, set[str]] = {module.name: set() for module in modules}
    for module, _line, target in _internal(modules):
        graph[module.name] |= {target if target in graph else target.rpartition(".")[0]} - {module.name}
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> Iterator[str]:
        if name in trail:
            yield "import cycle: " + " → ".join([*trail[trail.index(name) :], name])
        elif name not in done:
            for target in sorted(graph.get(name, ())):
                yield from visit(target, [*trail, name])
            done.add(name)

    for name in sorted(graph):
        yield from visit(name, [])


_IGNORE = re.compile(r"#\s*type:\s*ignore(?P<codes>\[[\w, -]+\])?(?P<rest>.*)")
_NOQA = re.compile(
    r"#\s*(?:ruff:\s*|flake8:\s*)?noqa(?P<codes>:\s*[A-Z]+\d+(?:[,\s]+[A-Z]+\d+)*)?(?P<rest>.*)", re.IGNORECASE
)
_REASON = re.compile(r"[A-Za-z]{2}")


def silenced_checks_give_code_and_reason(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
            if token.type != tokenize.COMMENT:
                continue
            found = _IGNORE.search(token.string) or _NOQA.search(token.string)
            if found and not (found["codes"] and _REASON.search(found["rest"])):
                yield f"{module.path}:{token.start[0]}: `{token.string}` needs a code and, after it, a reason"


def environment_is_read_in_one_place(modules: list[Module]) -> Iterator[str]:
    for module in modules:
        if _within(module.name, ENVIRONMENT_READERS):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                names = {node.attr}
            elif isinstance(node, ast.ImportFrom) and node.module == "os":
                names = {alias.name for alias in node.names}
            else:
                continue
            for name in sorted(names & {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}):
                yield f"{module.path}:{node.lineno}: os.{name}: settings are read once, in opencode/settings.py"


Rule = Callable[[list[Module]], Iterator[str]]
PACKAGE_RULES: list[Rule] = [
    imports_point_down,
    adapters_stand_alone,
    foreign_packages_stay_confined,
    sizes_stay_in_budget,
    names_say_what_is_inside,
    no_import_cycles,
    environment_is_read_in_one_place,
]


@pytest.mark.parametrize("rule", PACKAGE_RULES)
def test_the_package_keeps_the_rule(rule: Rule):
    complaints = sorted(rule(package_modules()))
    assert not complaints, "\n" + "\n".join(complaints)


def test_every_silenced_check_gives_code_and_reason():
    complaints = sorted(silenced_checks_give_code_and_reason(all_modules()))
    assert not complaints, "\n" + "\n".join(complaints)


def test_every_listed_adapter_exists():
    names = {module.name for module in package_modules()}
    missing = [f"{package}.{name}" for package, own in ADAPTERS.items() for name in own
               if f"opencode.{package}.{name}" not in names]  # fmt: skip
    assert not missing, f"ADAPTERS names modules that do not exist: {sorted(missing)}"


# Each rule is shown able to fail: what it must complain about, and what it must let pass.
LONG = "x = 1\n" * (FILE_LINES + 1)
LONG_FUNCTION = "def f():\n" + "    x = 1\n" * FUNCTION_LINES
WELL_DOCUMENTED = 'def f():\n    """One.\n' + "\n    more\n" * 9 + '    """\n' + "    x = 1\n" * (FUNCTION_LINES - 1)
BITES: list[tuple[Rule, dict[str, str], str]] = [
    (imports_point_down, {"opencode/errors.py": "from opencode.session import turn"}, "foundation may not import"),
    (imports_point_down, {"opencode/provider/openai.py": "import opencode.tool.port"}, "provider may not import"),
    (imports_point_down, {"opencode/bus/memory.py": "from ..storage import port"}, "bus may not import"),
    (imports_point_down, {"opencode/session/turn.py": "from opencode.storage.sql import SqlStore"}, "storage.sql"),
    (imports_point_down, {"opencode/session/turn.py": "def f():\n from opencode.server import sse"}, "opencode.server"),
    (imports_point_down, {"opencode/session/turn.py": "from opencode.storage import Store"}, "opencode.storage"),
    (imports_point_down, {"opencode/server/api.py": "from opencode.storage.port import Store"}, "storage.port"),
    (imports_point_down, {"opencode/server/api.py": "from opencode.cli import main"}, "server may not import"),
    (imports_point_down, {"opencode/client/http.py": "from opencode.server import api"}, "client may not import"),
    (imports_point_down, {"opencode/wiring.py": "import importlib as i; i.import_module('opencode.cli.main')"}, "cli.main"),
    (imports_point_down, {"opencode/stray.py": ""}, "no layer"),
    (adapters_stand_alone, {"opencode/provider/anthropic.py": "from opencode.provider import openai",
                            "opencode/provider/openai.py": ""}, "adapter provider.openai"),
    (adapters_stand_alone, {"opencode/provider/models.py": "from opencode.provider.demo.guide import G"}, "provider.demo"),
    (adapters_stand_alone, {"opencode/tool/toolbox.py": "from .bash import Bash"}, "adapter tool.bash"),
    (foreign_packages_stay_confined, {"opencode/session/turn.py": "from flask import g"}, "flask"),
    (foreign_packages_stay_confined, {"opencode/wiring.py": "import werkzeug.http"}, "werkzeug"),
    (foreign_packages_stay_confined, {"opencode/server/sse.py": "import gevent.event"}, "gevent"),
    (foreign_packages_stay_confined, {"opencode/wiring.py": "import sqlalchemy as sa"}, "sqlalchemy"),
    (sizes_stay_in_budget, {"opencode/ids.py": LONG}, f"{FILE_LINES + 1} lines"),
    (sizes_stay_in_budget, {"opencode/ids.py": LONG_FUNCTION}, f"ids.py::f: {FUNCTION_LINES + 1} lines"),
    (names_say_what_is_inside, {"opencode/session/utils.py": ""}, "'utils'"),
    (names_say_what_is_inside, {"opencode/common/text.py": ""}, "'common'"),
    (names_say_what_is_inside, {"opencode/tool/_base.py": ""}, "'_base'"),
    (no_import_cycles, {"opencode/ids.py": "from opencode import errors",
                        "opencode/errors.py": "def f():\n    from opencode.ids import new_id"}, "opencode.errors → opencode.ids"),
    (no_import_cycles, {"opencode/a.py": "import opencode.b", "opencode/b.py": "import opencode.c",
                        "opencode/c.py": "import opencode.a"}, "opencode.a → opencode.b → opencode.c → opencode.a"),
    (silenced_checks_give_code_and_reason, {"opencode/ids.py": "x = 1  # type: ignore"}, "code and"),
    (silenced_checks_give_code_and_reason, {"opencode/ids.py": "x = 1  # type: ignore[assignment]"}, "reason"),
    (silenced_checks_give_code_and_reason, {"opencode/ids.py": "x = 1  # noqa"}, "code and"),
    (silenced_checks_give_code_and_reason, {"opencode/ids.py": "x = 1  # noqa: S603, S607"}, "reason"),
    (silenced_checks_give_code_and_reason, {"opencode/ids.py": "# ruff: noqa - all of it is fine"}, "code and"),
    (environment_is_read_in_one_place, {"opencode/wiring.py": "import os\nx = os.environ['A']"}, "os.environ"),
    (environment_is_read_in_one_place, {"opencode/wiring.py": "from os import getenv"}, "os.getenv"),
]  # fmt: skip
PASSES: list[tuple[Rule, dict[str, str]]] = [
    (imports_point_down, {"opencode/session/turn.py": "from opencode.storage.port import Store\nfrom . import log"}),
    (imports_point_down, {"opencode/session/turn.py": "from opencode.tool import port", "opencode/tool/port.py": ""}),
    (imports_point_down, {"opencode/wiring.py": "from opencode.provider import openai\nimport opencode.bus.memory"}),
    (imports_point_down, {"opencode/__main__.py": "from opencode.cli.main import main"}),
    (imports_point_down, {"opencode/server/factory.py": "from opencode import __version__, settings, wiring"}),
    (adapters_stand_alone, {"opencode/provider/openai.py": "from opencode.provider.http import read_bytes"}),
    (adapters_stand_alone, {"opencode/provider/demo/__init__.py": "from opencode.provider.demo.guide import G"}),
    (adapters_stand_alone, {"opencode/wiring.py": "from opencode.tool.bash import Bash"}),
    (foreign_packages_stay_confined, {"opencode/server/pump.py": "import gevent", "opencode/server/a.py": "import flask"}),
    (foreign_packages_stay_confined, {"opencode/provider/openai.py": "import openai"}),
    (sizes_stay_in_budget, {"opencode/ids.py": WELL_DOCUMENTED}),
    (names_say_what_is_inside, {"opencode/storage/migrations/env.py": "", "opencode/database.py": ""}),
    (no_import_cycles, {"opencode/a.py": "from opencode.b import c\nfrom opencode import d", "opencode/b.py": "",
                        "opencode/d.py": "import opencode.b"}),
    (silenced_checks_give_code_and_reason, {"opencode/ids.py": "x = 1  # type: ignore[misc]  # the stub is wrong"}),
    (silenced_checks_give_code_and_reason, {"opencode/ids.py": "x = 1  # noqa: S603 - a fixed command"}),
    (silenced_checks_give_code_and_reason, {"opencode/ids.py": "x = '# noqa'"}),
    (environment_is_read_in_one_place, {"opencode/settings.py": "import os\nos.environ", "opencode/cli/a.py": "import os\nos.environ"}),
]  # fmt: skip


def _modules(files: dict[str, str]) -> list[Module]:
    return [Module(path, source) for path, source in files.items()]


@pytest.mark.parametrize(("rule", "files", "expected"), BITES)
def test_the_rule_bites(rule: Rule, files: dict[str, str], expected: str):
    assert expected in "\n".join(rule(_modules(files)))


@pytest.mark.parametrize(("rule", "files"), PASSES)
def test_the_rule_lets_pass(rule: Rule, files: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "IMPORT_EXCEPTIONS", {})  # those of the package are not needed by these files
    assert list(rule(_modules(files))) == []


@pytest.mark.parametrize("files", [{"opencode/ids.py": LONG}])
def test_an_exception_raises_one_limit_and_must_be_needed(files: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ALLOWED, "opencode/ids.py", (FILE_LINES + 1, "for this test"))

    assert list(sizes_stay_in_budget(_modules(files))) == []
    assert "no longer needed" in next(sizes_stay_in_budget(_modules({"opencode/ids.py": "x = 1"})))


def test_an_import_exception_allows_one_pair_and_must_be_needed(monkeypatch: pytest.MonkeyPatch):
    exceptions = {("opencode.server.api", "opencode.tool.port"): "for this test"}
    monkeypatch.setitem(globals(), "IMPORT_EXCEPTIONS", exceptions)

    twice = {"opencode/server/api.py": "import opencode.tool.port\nimport opencode.tool.port"}
    assert list(imports_point_down(_modules(twice))) == []
    assert "no longer needed" in next(imports_point_down(_modules({"opencode/server/api.py": ""})))


# Imports every module it is given and prints what that left behind.
IMPORTER = textwrap.dedent("""
    import importlib, io, json, logging, os, signal, sys, threading
    names = json.loads(sys.argv[1])
    def state():
        return {
            "threads": threading.active_count(),
            "environment": sorted(os.environ.items()),
            "signal handlers": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
            "logging handlers": len(logging.getLogger().handlers),
            "directory": os.getcwd(),
            "patched sockets": str(__import__("socket").socket),
        }
    before = state()
    stdout, stderr = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = printed = io.StringIO()
    try:
        for name in names:
            importlib.import_module(name)
    except SystemExit as error:
        sys.exit(f"importing {name} ended the process ({error}): {printed.getvalue()}")
    finally:
        sys.stdout, sys.stderr = stdout, stderr
    changed = [key for key, value in state().items() if value != before[key]]
    print(json.dumps({"changed": changed, "printed": printed.getvalue(), "loaded": sorted(sys.modules)}))
""")


def import_in_fresh_process(names: list[str], home: Path) -> dict:
    environ = {"PATH": os.defpath, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTER, json.dumps(names)],
        cwd=home,
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def test_importing_the_package_does_nothing(tmp_path: Path):
    names = [module.name for module in package_modules() if module.name not in NOT_IMPORTABLE]

    found = import_in_fresh_process(names, tmp_path)

    assert found["changed"] == [], f"importing changed: {found['changed']}"
    assert found["printed"] == ""
    assert list(tmp_path.rglob("*")) == [], "importing wrote files"


def test_the_server_starts_without_loading_the_providers_sdks(tmp_path: Path):
    names = [module.name for module in package_modules() if layer(module.name) in {"server", "wiring"}]

    loaded = import_in_fresh_process(names, tmp_path)["loaded"]

    assert not {"anthropic", "openai"} & set(loaded), "load an SDK in the function that makes its client"


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ("print('hello')", "printed"),
        ("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()", "changed"),
        ("import os\nos.environ['A'] = 'b'", "changed"),
        ("import logging\nlogging.basicConfig()", "changed"),
    ],
)
def test_an_import_with_a_side_effect_is_noticed(source: str, field: str, tmp_path: Path):
    (tmp_path / "loud.py").write_text(source)

    assert import_in_fresh_process(["loud"], tmp_path)[field]
