"""What the settings confine sessions to: directories, what is closed in them, and the sandbox of commands."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from opencode.errors import SettingsError
from opencode.session.directories import Directories
from opencode.settings import Settings
from opencode.tool.sandbox import Sandbox, find_sandbox

log = logging.getLogger(__name__)


def find_directories(settings: Settings) -> Directories:
    """The roots, and what is closed in them.

    Raises:
        SettingsError: a root is no directory, or lies in what is closed.
    """
    here = (settings.directory or Path.cwd()).resolve()
    private = _private(settings)
    roots = tuple(Path(root).expanduser().resolve() for root in settings.project_roots) or (here,)
    for root in roots:
        if not root.is_dir():
            raise SettingsError(f"OPENCODE_PROJECT_ROOTS names {root}, which is not a directory. Create or correct it.")
        if closed := next(filter(root.is_relative_to, private), None):
            raise SettingsError(
                f"Sessions cannot work in {root}, which lies in {closed}: that is closed to them. Serve another"
                " directory, or set OPENCODE_DATA_DIR to a folder elsewhere."
            )
    return Directories(roots, here if any(here.is_relative_to(root) for root in roots) else roots[0], private)


def _private(settings: Settings) -> tuple[Path, ...]:
    """What no session may touch: the server's data, and `/proc`, where its memory is."""
    found = [Path("/proc"), settings.data_dir.expanduser().resolve()]
    scheme, _, file = (settings.database_url or "").partition(":///")
    if scheme == "sqlite" and file:
        store = Path(file).resolve()
        found += [store.with_name(f"{store.name}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")]
        found.append(store.with_name("lock"))
    return tuple(found)


def choose_sandbox(
    settings: Settings, environ: Mapping[str, str], directories: Directories, *, programs: Iterable[Path] = ()
) -> tuple[Sandbox | None, str]:
    """The sandbox that the settings call for, and what to say of it. `programs` are folders of our own programs.

    Raises:
        SettingsError: one is required, and there is none or it would show the server's data.
    """
    own = [path for path in directories.private if path != Path("/proc")]  # of which a sandbox makes its own
    inside = [path for path in own if any(map(path.is_relative_to, directories.roots))]
    if inside and settings.sandbox == "require":
        raise SettingsError(
            f"OPENCODE_SANDBOX=require, and {inside[0]} lies in a directory that sessions may use, where commands could"
            " reach it. Set OPENCODE_DATA_DIR to a folder elsewhere, or OPENCODE_PROJECT_ROOTS to narrower ones."
        )
    if inside:
        log.warning("%s lies where sessions work: file tools refuse it, commands may reach it.", inside[0])
    if settings.sandbox == "off":
        return None, "off: commands run as this user (OPENCODE_SANDBOX=auto confines them)"
    readable = [Path(path).expanduser() for path in settings.sandbox_readable]
    sandbox, found = find_sandbox(
        environ,
        network=settings.sandbox_network,
        readable=[*readable, *programs],
        private=directories.private,
    )
    if sandbox is None and settings.sandbox == "require":
        raise SettingsError(
            f"OPENCODE_SANDBOX=require, but {found}. Mend that, or set OPENCODE_SANDBOX=auto to go without where there"
            " is none."
        )
    if sandbox is None:
        log.warning("no sandbox: %s. Commands run as this user.", found)
        return None, f"none: {found}; commands run as this user"
    network = "with" if settings.sandbox_network else "without"
    return sandbox, f"{found}: commands see their session's directory only, {network} network"
