"""The tools, and the sandbox that their commands run in."""

from collections.abc import Mapping
from pathlib import Path

from opencode.confinement import choose_sandbox
from opencode.errors import SettingsError
from opencode.session.directories import Directories
from opencode.settings import Settings
from opencode.tool.bash import Bash, tool_environment
from opencode.tool.edit import Edit
from opencode.tool.glob import Glob
from opencode.tool.grep import Grep, find_ripgrep
from opencode.tool.list import List
from opencode.tool.read import Read
from opencode.tool.toolbox import Toolbox
from opencode.tool.write import Write


def find_tools(settings: Settings, environ: Mapping[str, str], directories: Directories) -> tuple[Toolbox, str]:
    """The tools, and what is to be said of the sandbox that their commands run in."""
    environment = tool_environment(environ)
    ripgrep = find_ripgrep(environment["PATH"])
    beside = [Path(ripgrep).parent] if Path(ripgrep).is_absolute() else []
    sandbox, said = choose_sandbox(settings, environ, directories, programs=beside)
    bash, grep = Bash(environment=environment, sandbox=sandbox), Grep(ripgrep=ripgrep, sandbox=sandbox)
    toolbox = Toolbox([bash, Read(), Write(), Edit(), grep, Glob(), List()])
    unknown = sorted(settings.permission.keys() - set(toolbox.names))
    if unknown:
        raise SettingsError(
            f"OPENCODE_PERMISSION names {unknown[0]!r}, which is no tool. The tools: {', '.join(toolbox.names)}."
        )
    return toolbox, said
