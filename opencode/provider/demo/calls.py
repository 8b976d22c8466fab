"""Which tool call carries out a request; through `bash` where the tool of its own is not offered."""

import re
import shlex

from opencode.provider.demo.plan import Call, Context
from opencode.provider.demo.requests import (
    FindFiles,
    ListFiles,
    ReadFile,
    ReplaceText,
    Request,
    RunCommand,
    Search,
    WriteFile,
)

# The characters that mean something to every kind of regular expression; more must not be escaped in some.
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")


def call_for(request: Request, context: Context) -> tuple[str, Call | None]:
    """The name of the tool that the request needs, and the call; None where this session does not offer it."""
    call = _call(request)
    if call.tool not in context.tools:
        return call.tool, _through_shell(request) if "bash" in context.tools else None
    return call.tool, call


def _call(request: Request) -> Call:
    match request:
        case ListFiles(path):
            call = Call("list", {"path": path} if path else {})
        case ReadFile(path, first, last):
            call = Call("read", {"path": path} | _range(first, last))
        case Search(text, path):
            call = Call("grep", {"pattern": _SPECIAL.sub(r"\\\1", text)} | ({"path": path} if path else {}))
        case FindFiles(pattern):
            call = Call("glob", {"pattern": pattern})
        case WriteFile(path, content):
            call = Call("write", {"path": path, "content": content})
        case ReplaceText(path, old, new, everywhere):
            params = {"path": path, "old_string": old, "new_string": new}
            call = Call("edit", params | ({"replace_all": True} if everywhere else {}))
        case RunCommand(command):
            call = Call("bash", {"command": command})
        case _:
            call = Call("")
    return call


def _range(first: int | None, last: int | None) -> dict[str, int]:
    if first is None:
        return {}
    return {"offset": first} if last is None else {"offset": first, "limit": last - first + 1}


def _through_shell(request: Request) -> Call | None:
    """Looking only: what changes files goes through the tool that the session grants for it."""
    match request:
        case ListFiles(path):
            command = f"ls -1Ap -- {shlex.quote(path)}" if path else "ls -1Ap"
        case Search(text, path):
            # Exit code 1 means "no match" and is no failure; 2 is one.
            where = shlex.quote(path or ".")
            command = f"grep -rnHIF --exclude-dir=.git -e {shlex.quote(text)} -- {where} || [ $? -eq 1 ]"
        case FindFiles(pattern):
            pattern = pattern.removeprefix("**/")
            wanted = f"-path {shlex.quote(f'./{pattern}')}" if "/" in pattern else f"-name {shlex.quote(pattern)}"
            command = f"find . -type f -not -path '*/.git/*' {wanted}"
        case _:
            return None
    return Call("bash", {"command": command})
