"""Runs programs in bubblewrap, which shows them one directory, the system's programs, and nothing else.

What is inside is in namespaces of its own: the processes, the temporary folder and `/proc` are its own, the home
directory is empty but for programs, and everything but the session's directory is read-only or gone with the call.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opencode.errors import ToolError
from opencode.openat import identity, open_folder

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")
#: Of /etc only what programs need: the rest holds keys and passwords, which a server run by root could read.
_ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "crypto-policies", "fonts", "group", "hosts", "java-*"),
    *("ld.so.cache", "locale.alias", "localtime", "mime.types", "nsswitch.conf", "os-release", "passwd"),
    *("pki/ca-trust", "pki/tls/cert.pem", "pki/tls/certs", "profile", "protocols", "python3*", "resolv.conf"),
    *("services", "ssl/cert.pem", "ssl/certs", "ssl/openssl.cnf", "timezone"),
)
#: Folders of the home directory that hold programs and no secrets.
_TOOLCHAINS = (
    *(".asdf", ".bun/bin", ".cargo/bin", ".deno/bin", ".local/share/mise", ".local/share/uv", ".nvm", ".pyenv"),
    *(".rbenv", ".rustup", ".sdkman/candidates", ".volta"),
)
#: What a root in a container usually has, but for what reaches beyond files: ordinary builds unpack and chown.
_ROOT_MAY = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")
#: What of /proc root may write to though it holds no capability, such as `kernel/core_pattern`, and what it should not
#: even read. bubblewrap covers only a part.
_PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_PROC_CLOSED = ("acpi", "asound", "kcore", "keys", "kmsg", "latency_stats", "mtrr", "scsi", "timer_list")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# bubblewrap binds by path. Whether what it bound is the folder that was checked is asked where it can no longer
# change: inside.
_CHECKED = (
    '[ "$(PATH=/usr/bin:/bin stat -c %d:%i .)" = "$1" ] || '
    '{ echo "The session\'s directory was replaced while the command started." >&2; exit 126; }; '
    'shift; exec "$@"'
)
_PROBE_S = 30.0
_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How programs are confined. All paths are absolute.

    Args:
        program: bubblewrap.
        system: its options that are the same for every call.
        network: whether commands have one; `reading` never has.
        home: shown empty.
        readable: shown read-only.
        private: never shown, wherever they lie.
    """

    program: str
    system: tuple[str, ...]
    network: bool
    home: Path | None
    readable: tuple[Path, ...]
    private: tuple[Path, ...]

    def writing(self, argv: Sequence[str], directory: Path, identity: str) -> list[str]:
        """`argv` for a command that may write in `directory`, which is also where it starts.

        `identity` is the directory's, see `openat`: a folder that has taken its place is not worked in.
        """
        return self._argv(argv, directory, identity, bind="--bind", network=self.network)

    def reading(self, argv: Sequence[str], directory: Path, identity: str) -> list[str]:
        """The same for a program that only reads, and needs no network."""
        return self._argv(argv, directory, identity, bind="--ro-bind", network=False)

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """A command's environment, with the sandbox's own temporary folder."""
        return {**environment, "TMPDIR": "/tmp"}  # noqa: S108 - the sandbox's, empty and its own

    def _argv(self, argv: Sequence[str], directory: Path, identity: str, *, bind: str, network: bool) -> list[str]:
        if directory == Path(directory.anchor):
            raise ToolError("A session in / cannot be confined: give it a directory of its own.")
        shown = [path for path in self.readable if path != directory]
        return [
            self.program,
            *self.system,
            *([] if network else ["--unshare-net"]),
            *(("--tmpfs", str(self.home)) if self.home else ()),
            *(word for path in shown for word in ("--ro-bind-try", str(path), str(path))),
            # Named, or bubblewrap makes them for its own user alone: a command of root's may become another.
            *(word for path in reversed(directory.parents) for word in ("--dir", str(path))),
            *(bind, str(directory), str(directory)),
            *_masks(self.private, [*shown, directory]),
            *("--chdir", str(directory), "--", "/bin/sh", "-c", _CHECKED, "sh", identity),
            *argv,
        ]


def find_sandbox(
    environ: Mapping[str, str], *, network: bool, readable: Iterable[Path] = (), private: Iterable[Path] = ()
) -> tuple[Sandbox | None, str]:
    """A sandbox that works on this machine, and what was found; None where there is none.

    It is tried out: bubblewrap may be there and not be allowed to make namespaces, as in most containers.
    """
    program = shutil.which("bwrap", path=environ.get("PATH", os.defpath))
    if program is None:
        return None, "bubblewrap is not installed (apt install bubblewrap)"
    closed = tuple(private)
    home = _home(environ)
    sandbox = Sandbox(
        program=program,
        system=tuple(_system()),
        network=network,
        home=home,
        readable=tuple(dict.fromkeys([*_programs(environ, home, closed), *(path.absolute() for path in readable)])),
        private=closed,
    )
    fault = _fault(sandbox)
    if fault:
        return None, f"bubblewrap is installed but does not work here: {fault}"
    version = _VERSION.search(_run([program, "--version"]).stdout)
    return sandbox, f"bubblewrap {version[0] if version else ''}".rstrip()


def _fault(sandbox: Sandbox) -> str:
    """Why the sandbox does not work; empty where it does."""
    with tempfile.TemporaryDirectory(prefix="opencode-sandbox-") as name:
        directory = Path(name).resolve()
        folder = open_folder(directory)
        try:
            own = identity(folder)
        finally:
            os.close(folder)
        try:
            for argv in (sandbox.writing, sandbox.reading):
                found = _run(argv(["/bin/sh", "-c", "echo $$"], directory, own))
                if found.returncode or not found.stdout.strip().isdigit():
                    said = found.stderr.strip().splitlines()
                    return said[-1][:300] if said else f"it ended with exit code {found.returncode}"
        except (OSError, subprocess.TimeoutExpired) as exc:
            return str(exc)[:300]
    return ""


def _run(argv: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own words, and no shell
        argv,
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PROBE_S,
        check=False,
    )


def _home(environ: Mapping[str, str]) -> Path | None:
    home = Path(environ.get("HOME") or "/")
    return home.resolve() if home.is_absolute() and home != Path("/") and home.is_dir() else None


def _programs(environ: Mapping[str, str], home: Path | None, private: Iterable[Path]) -> Iterable[Path]:
    """Folders of programs outside the system's: those of PATH, and toolchains that such programs hand on to."""
    # A folder that holds the home directory or the server's data is none of programs.
    closed = [*private, *([home] if home else [])]
    homes = {home} if home else set()
    for path in map(Path, environ.get("PATH", "").split(os.pathsep)):
        real = path.resolve()
        holds_closed = any(each.is_relative_to(real) for each in closed)
        if path.is_absolute() and path.is_dir() and not holds_closed and not any(map(real.is_relative_to, _SYSTEM)):
            yield path
            homes |= {Path(*path.parts[:at]) for at, name in enumerate(path.parts) if name.startswith(".")}
    yield from (path for each in homes for name in _TOOLCHAINS if (path := each / name).is_dir())
    yield from (Path(environ[name]) for name in _CERTIFICATES if environ.get(name, "").startswith("/"))


def _system() -> Iterable[str]:
    yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent")
    yield from ("--cap-drop", "ALL")
    as_root = os.geteuid() == 0
    for name in _ROOT_MAY if as_root else ():
        yield from ("--cap-add", name)
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    yield from ("--dir", "/etc", "--dir", "/sys")
    for path in sorted({path for pattern in _ETC for path in Path("/etc").glob(pattern)}):
        yield from ("--ro-bind-try", str(path), str(path))
    yield from ("--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp", "--tmpfs", "/run")  # noqa: S108 - its own
    yield from ("--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu", "--proc", "/proc")
    if as_root:
        for name in _PROC_READ_ONLY:
            yield from ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")
        yield from _covers(Path("/proc", name) for name in _PROC_CLOSED)


def _covers(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        if path.is_dir():
            yield from ("--tmpfs", str(path))
        elif path.exists():
            yield from ("--ro-bind", "/dev/null", str(path))


def _masks(private: Iterable[Path], shown: Sequence[Path]) -> Iterable[str]:
    """Cover what is private where a folder that is shown holds it."""
    return _covers(path for path in private if any(map(path.is_relative_to, shown)))
