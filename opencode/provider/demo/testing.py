"""Running a project's tests: looks how it is done here, then does it."""

from opencode.provider.demo import results
from opencode.provider.demo.plan import Call, Context, Plan
from opencode.provider.port import Text, ToolResult

UNITTEST = "python3 -m unittest -v"
_PYTEST = "python3 -m pytest"
_COMMANDS = (
    "make test",
    "npm test",
    "cargo test",
    "go test ./...",
    _PYTEST,
    "python3 -m unittest discover -v -s tests",
    UNITTEST,
)
_SKIPPED = "--exclude-dir=node_modules --exclude-dir='.?*'"
# `.?*` and not `.*`: grep would leave out `.` itself, and with it everything.
LOOK = f"""\
if grep -qs '^test:' Makefile; then echo make test
elif grep -qs '"test" *:' package.json; then echo npm test
elif [ -f Cargo.toml ]; then echo cargo test
elif [ -f go.mod ]; then echo go test ./...
elif [ -f pytest.ini ] || [ -f conftest.py ] || grep -qs pytest pyproject.toml setup.cfg tox.ini; then echo {_PYTEST}
elif grep -rqsE --include='*test*.py' {_SKIPPED} '^(import|from) pytest|^def test_' .; then echo {_PYTEST}
elif [ -d tests ] && [ ! -f tests/__init__.py ]; then echo python3 -m unittest discover -v -s tests
elif grep -rqs --include='test*.py' {_SKIPPED} unittest .; then echo {UNITTEST}
else echo none; fi"""
_NAMES_SHOWN = 5


def run_tests(context: Context) -> Plan:
    """Two calls of `bash`, so that the command itself stands in a call of its own."""
    if "bash" not in context.tools:
        yield Text("To run tests I would need the tool `bash`, and this session does not offer it.")
        return False
    yield Text("I'll look how tests are run here.\n\n")
    result = yield Call("bash", {"command": LOOK, "description": "Finds out how this project runs its tests"})
    if results.failed(result):
        yield Text(f"I could not find out: {result.content[:300].strip()}")
        return False
    # Only a command of ours is run, whatever the result says.
    command = next((command for command in _COMMANDS if command == result.content.strip()), None)
    if command is None:
        yield Text("I found no tests here that I know how to run. Name the command yourself, such as `run make check`.")
        return False
    yield Text(f"I'll run `{command}`; its lines arrive while it runs.\n\n")
    result = yield Call("bash", {"command": command})
    yield Text(verdict(result))
    return results.test_report(result).passed


def verdict(result: ToolResult) -> str:
    """What came of a test run, in a line."""
    report = results.test_report(result)
    if report.passed:
        return "The tests pass." if report.total is None else f"All {report.total} tests pass."
    if result.is_error:
        return f"The tests could not be run: {' '.join(result.content[:300].split())}"
    if report.total == 0:
        return "No test ran."
    if not report.failing:
        return f"The test command failed with exit code {results.exit_code(result)}; its output says why."
    of = f"{report.failing} of {report.total}" if report.total else f"{report.failing}"
    named = ", ".join(f"`{name}`" for name in report.names[:_NAMES_SHOWN])
    more = ", …" if len(report.names) > _NAMES_SHOWN else ""
    reason = f" ({report.reason})" if report.reason and report.failing == 1 else ""
    fails = "fails" if report.failing == 1 else "fail"
    return f"{of} {'test' if of == '1' else 'tests'} {fails}{f': {named}{more}' if named else ''}{reason}."
