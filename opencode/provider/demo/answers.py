"""What the guide says of itself: a greeting, help, and its answer to what it does not understand."""

from opencode.provider.demo import results
from opencode.provider.demo.calls import call_for
from opencode.provider.demo.plan import Context, Plan
from opencode.provider.demo.requests import ListFiles, Unclear
from opencode.provider.port import Text

_WHO = "I am the built-in guide (`demo/guide`), not an AI: I know a few plain requests and do them with real tools."
_FORMS = """\
I understand, in these or similar words:

- `list the files`, `list the files in src`
- `read README.md`, `read README.md lines 1-20`
- `search for TODO`, `search for "two words" in src`
- `find files matching *.py`
- `write notes.txt with "some text"`: replaces the file; the text can also be a block in ``` marks
- `replace "old" with "new" in notes.txt`
- `run ls -la`, `run the tests`
- several of them with `then` between, or as a numbered list
- `start`: a guided tour of the example project"""
_PREFERRED = (
    "README.md",
    "readme.md",
    "README.rst",
    "README",
    "AGENTS.md",
    "package.json",
    "pyproject.toml",
    "Makefile",
)
_TEST_SIGNS = ("test", "Makefile", "package.json", "Cargo.toml", "go.mod")
_EXAMPLE = {"calculator.py", "test_calculator.py"}
_WANTED = 3
_PARTS_SHOWN = 3


def unclear(found: Unclear, context: Context) -> Plan:
    parts = ", ".join(f"“{part}”" for part in found.parts[:_PARTS_SHOWN])
    if parts:
        yield Text(f"I do not understand {parts}, and have done nothing. {_WHO}\n\n")
    elif found.advice:
        yield Text(f"{' '.join(found.advice)} I have done nothing yet. {_WHO}\n\n")
    else:
        yield Text(f"The request is empty. {_WHO}\n\n")
    return (yield from _suggestions(context))


def greeting(context: Context) -> Plan:
    yield Text(f"Hello! {_WHO}\n\n")
    return (yield from _suggestions(context))


def help_text(context: Context) -> Plan:
    yield Text(
        f"{_WHO} My texts are fixed, what they tell of files and commands is real, and the tokens I count are an"
        f" estimate, one for four characters.\n\n{_FORMS}\n\n"
    )
    return (yield from _suggestions(context))


def _suggestions(context: Context) -> Plan:
    """Requests that work in this directory, which is looked at first, and how to get a model."""
    _, call = call_for(ListFiles(), context)
    names: list[str] = []
    if call is not None:
        yield Text("I'll look at what is here.\n\n")
        result = yield call
        names = [] if results.failed(result) else results.names(result)
    requests = working_requests(names, context)
    if requests:
        yield Text("These work here:\n\n" + "\n".join(f"- `{request}`" for request in requests) + "\n\n")
    else:
        yield Text("This session offers none of the tools that I use.\n\n")
    yield Text(context.hint or "To talk to an AI, connect a model.")
    return True


def working_requests(names: list[str], context: Context) -> list[str]:
    """Three requests, or fewer where tools are missing, that can be carried out on these files."""
    tools = context.tools
    looks = bool(tools & {"list", "bash"})
    file = _file_to_read(names)
    has_tests = any(sign in name for name in names for sign in _TEST_SIGNS)
    candidates = (
        ("start", set(names) >= _EXAMPLE and tools >= {"bash", "read", "edit"}),
        (f"read {file}", file is not None and "read" in tools),
        ("run the tests", has_tests and "bash" in tools),
        ("list the files", looks),
        ('write hello.txt with "Hello!"', "write" in tools and "hello.txt" not in names),
        ("search for TODO", bool(tools & {"grep", "bash"})),
        ("run pwd", "bash" in tools),
        ("find files matching *", "glob" in tools),
    )
    return [request for request, works in candidates if works][:_WANTED]


def _file_to_read(names: list[str]) -> str | None:
    """A file that reads well; only a name that can be said without quotes."""
    plain = [name for name in names if not name.startswith((".", "_")) and not set(name) & set(" \t/\"'`\\,;:?*")]
    likely = [name for name in _PREFERRED if name in plain]
    return next(
        iter([*likely, *(name for name in plain if name.endswith((".md", ".txt", ".py", ".js", ".toml")))]), None
    )
