"""Runs a shell command in the session's directory."""

import os
import re
import signal
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from opencode.errors import Cancelled, ToolError
from opencode.openat import entrance, identity
from opencode.tool import arguments
from opencode.tool.arguments import Word
from opencode.tool.output import Output
from opencode.tool.port import ToolContext
from opencode.tool.process import Lost, Supervised, TimeIsUp
from opencode.tool.sandbox import Sandbox
from opencode.tool.workspace import Place, Workspace

_SHELLS = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash", "/bin/sh")

_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TERM|TZ|TMPDIR|SSL_CERT_FILE|SSL_CERT_DIR"
)

#: There is nobody to answer a question and no screen to turn pages on.
_UNATTENDED = {
    "DEBIAN_FRONTEND": "noninteractive",
    "GIT_EDITOR": "true",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "MANPAGER": "cat",
    "PAGER": "cat",
    "PIP_NO_INPUT": "1",
    "PYTHONUNBUFFERED": "1",
    "SYSTEMD_PAGER": "cat",
}


def tool_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a command may see of the server's environment: named variables only, so that no secret is among them."""
    passed_on = {name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"} | passed_on | _UNATTENDED


class BashArguments(arguments.Arguments):
    command: Annotated[Word, Field(description="The command line, run by `bash -c`.")]
    timeout_s: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        Field(description="Seconds after which the command is stopped."),
    ] = None
    description: Annotated[str | None, Field(description="What the command is for, in five to ten words.")] = None


class Bash:
    """The tool `bash`.

    Args:
        environment: the whole environment of a command, see `tool_environment`.
        sandbox: what commands run in, if anything.
        timeout_s: the time limit when the model gives none.
        max_timeout_s: the longest that the model may ask for; more is cut to this.
        output_limit: characters that the result holds at most, and as many are passed on live.
        grace_s: from asking a process to end until it is killed.
    """

    name = "bash"

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        sandbox: Sandbox | None = None,
        timeout_s: float = 120,
        max_timeout_s: float = 600,
        output_limit: int = 30_000,
        grace_s: float = 1.0,
    ) -> None:
        self._environment = dict(environment)
        self._sandbox = sandbox
        self._timeout_s = timeout_s
        self._max_timeout_s = max_timeout_s
        self._output_limit = output_limit
        self._grace_s = grace_s
        self.description = (
            "Runs a shell command in the session's directory and returns what it prints, standard error included, and"
            f" its exit code when that is not 0. Stopped after {timeout_s:g} s unless timeout_s says otherwise (at most"
            f" {max_timeout_s:g}). Each call is a new shell: changes of directory and variables do not last. There is"
            " no terminal and no input, so pass flags such as --yes. Processes left in the background are ended with"
            f" the command. Of more than {output_limit:,} characters the middle is left out. To look at or change"
            " files, prefer the other tools."
        )

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return arguments.schema(BashArguments)

    def run(self, params: Mapping[str, Any], context: ToolContext) -> str:
        context.cancel.check()
        asked = arguments.parse(BashArguments, params)
        timeout_s = min(asked.timeout_s or self._timeout_s, self._max_timeout_s)
        output = Output(context.output, limit=self._output_limit)
        try:
            with (
                Workspace(context.directory).folder(Place(())) as folder,
                self._process(asked, folder, context) as process,
            ):
                for piece in process.output(timeout_s):
                    output.add(piece)
        except TimeIsUp:
            output.close()
            raise ToolError(
                f"{_lines(output)}[stopped: it took longer than {timeout_s:g} s. timeout_s can be up to"
                f" {self._max_timeout_s:g}; what never ends, such as a server, must be stopped by the command itself]"
            ) from None
        except Lost as exc:
            output.close()
            raise ToolError(f"{_lines(output)}[stopped: {exc}]") from None
        except Cancelled:
            output.close()
            raise
        output.close()
        return _result(output, process.exit_code or 0)

    def _process(self, asked: BashArguments, folder: int, context: ToolContext) -> Supervised:
        argv = [_shell(), "-c", asked.command]
        environment = self._environment
        if self._sandbox:
            argv = self._sandbox.writing(argv, context.directory, identity(folder))
            environment = self._sandbox.environment(environment)
        return Supervised(
            argv,
            directory=entrance(folder, context.directory),
            environment=environment,
            cancel=context.cancel,
            grace_s=self._grace_s,
            sandboxed=self._sandbox is not None,
        )


def _shell() -> str:
    return next((path for path in _SHELLS if os.access(path, os.X_OK) and Path(path).is_file()), "sh")


def _lines(output: Output) -> str:
    """The output with a line break after it, where there is any."""
    text = output.text()
    return text if not text or text.endswith("\n") else f"{text}\n"


def _result(output: Output, exit_code: int) -> str:
    if exit_code == 0:
        return output.text() or "(no output)"
    if exit_code > 0:
        return f"{_lines(output)}[exit code {exit_code}]"
    return f"{_lines(output)}[exit code {128 - exit_code}: {signal.strsignal(-exit_code)}]"
