"""Runs one command for the server, and lets nothing of it outlive the call, even if the server is killed.

A program of its own, started for each call, and so without imports that it can do without. It reads its order from
standard input, which then stays open: when that ends, because the server asks for it or has died, the command ends.
Standard output is the command's. On standard error the server is told `started PID` or `failed ERRNO`, and then
`exited CODE`; the stream ends when nothing is left of the command, or when what is left cannot be killed.

On Linux it is a subreaper: whatever loses its parent becomes its child, so that everything the command started can be
found below it, in whatever session it hides. Elsewhere it ends the command's process group.
"""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Mapping, Sequence
else:
    import _signal as signal  # the part of `signal` in C; the rest builds enums, which takes half as long as Python

#: How long killing is tried without finding anybody new: what the kernel does not let go of, or belongs to somebody
#: else, is left then.
KILL_S = 5.0
#: How long it is tried in all, against processes that are started faster than they are found.
LAST_S = 60.0
_SIZE_BYTES = 8
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_CAPABILITY_VERSION = 0x20080522
#: What root may in most containers: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
#: net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap. None of them reads other processes' memory.
_KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})
_NAME = b"opencode-bash"  # so that `pkill python` in a command does not end its supervisor


def order(argv: Sequence[str], environment: Mapping[str, str], grace_s: float, *, sandboxed: bool = False) -> bytes:
    """What the server writes to standard input; arguments there are not seen by `ps` and `pkill -f`.

    `sandboxed` says that the command is a sandbox's program, which takes all that is in it along when it ends.
    """
    fields = [
        f"{grace_s}",
        f"{int(sandboxed)}",
        f"{len(argv)}",
        *argv,
        *(f"{name}={value}" for name, value in environment.items()),
    ]
    if any("\0" in field for field in fields):
        raise ValueError("A command and its environment cannot hold a NUL.")
    packed = b"\0".join(map(os.fsencode, fields))
    return len(packed).to_bytes(_SIZE_BYTES, "big") + packed


def survivors(root: int, session: int) -> dict[int, tuple[str, int]]:
    """State and group of the processes that descend from `root` or are in the session; their descendants, too.

    Where there is no /proc to search, the group of the session's leader stands for all as one negative number.
    """
    table = dict(_processes())
    if not table:
        return {-session: ("R", session)} if send([-session], 0) else {}
    children: dict[int, list[int]] = {}
    for pid, (_, parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    waiting = children.get(root, []) + [pid for pid, entry in table.items() if entry[3] == session]
    found: dict[int, tuple[str, int]] = {}
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            state, _, group, _ = table[pid]
            found[pid] = (state, group)
            waiting += children.get(pid, [])
    return found


def send(pids: Iterable[int], number: int) -> bool:
    """Send a signal; whether anybody got it."""
    got = False
    for pid in pids:
        try:
            os.kill(pid, number)
            got = True
        except (ProcessLookupError, PermissionError):
            pass
    return got


def kill(*searches: Callable[[], Iterable[int]], within_s: float) -> set[int]:
    """Kill what is found, once no search finds anybody new or the time is up, and return it.

    All are stopped first: what is killed makes room for what its relatives start meanwhile, what is stopped does not.
    """
    deadline = time.monotonic() + within_s
    stopped: set[int] = set()
    while new := next(filter(None, (set(search()) - stopped for search in searches)), None):
        send(new, signal.SIGSTOP)
        stopped |= new
        if time.monotonic() >= deadline:
            break
    send(stopped, signal.SIGKILL)
    return stopped


def _children() -> list[int]:
    """The children of this process, where the kernel lists them.

    Takes microseconds, so that one that starts another and ends at once is still there when the signal comes.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb", 0) as file:  # noqa: PTH123 - pathlib takes too long to import
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _processes() -> Iterable[tuple[int, tuple[str, int, int, int]]]:
    """The state, parent, group and session of each process."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib takes too long to import
    except OSError:
        return
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb", 0) as file:  # noqa: PTH123 - as above
                    # The program's name stands in parentheses and may hold anything, blanks and parentheses too.
                    state, parent, group, session = file.read().rpartition(b")")[2].split()[:4]
            except (OSError, ValueError):
                continue
            yield int(name), (state.decode(), int(parent), int(group), int(session))


def _prepare(*, sandboxed: bool) -> bool:
    """Give up for good what a command has no need of; whether orphaned descendants become children of this process."""
    try:
        import ctypes  # noqa: PLC0415 - nothing for the server, which imports this module

        libc = ctypes.CDLL(None)
        prctl, capget, capset = libc.prctl, libc.capget, libc.capset
    except (ImportError, OSError, AttributeError):
        return False
    prctl(_PR_SET_NAME, _NAME, 0, 0, 0)
    if not sandboxed:  # a sandbox needs more to set itself up, and then gives up all the more
        for number in set(range(64)) - _KEPT_CAPABILITIES:
            prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # where this may not be done, there is nothing to regain either
        kept = sum(1 << number for number in _KEPT_CAPABILITIES)  # all in the lower half
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
        if capget(header, held) == 0:
            capset(header, (ctypes.c_uint32 * 6)(*(word & kept for word in held[:3])))
    return bool(prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _read_order() -> list[bytes]:
    """The order's fields; none where the server has died before it gave it."""
    data = b""
    size = _SIZE_BYTES
    while len(data) < size:
        piece = os.read(0, 1_048_576)
        if not piece:
            return []
        data += piece
        if len(data) >= _SIZE_BYTES:
            size = _SIZE_BYTES + int.from_bytes(data[:_SIZE_BYTES], "big")
    return data[_SIZE_BYTES:].split(b"\0")


def _spawn(argv: list[bytes], environment: dict[bytes, bytes]) -> int:
    """Start the command in a session of its own, with nothing that was set for this program."""
    return os.posix_spawnp(
        argv[0],
        argv,
        environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)],
        setsid=True,
        setsigmask=[],
        setsigdef=[*_IGNORED, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD],
    )


_IGNORED = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]


class _Watch:
    """Over one command and all that it starts."""

    def __init__(self, grace_s: float, *, sandboxed: bool, adopting: bool) -> None:
        self._grace_s = grace_s
        self._sandboxed = sandboxed
        self._adopting = adopting
        self._command = 0
        self._exited = False
        self._bell, ring = os.pipe()
        for end in (self._bell, ring):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)

    def run(self, argv: list[bytes], environment: dict[bytes, bytes]) -> None:
        try:
            self._command = _spawn(argv, environment)
        except OSError as exc:
            _tell("failed", exc.errno or 0)
            return
        _tell("started", self._command)
        poller = self._poller()
        poller.register(0, select.POLLIN)
        while not self._exited and not any(source == 0 for source, _ in poller.poll()):
            self._reap()
        self._end()

    def _end(self) -> None:
        if self._wait_until_gone(0):
            return
        found = survivors(os.getpid(), self._command)
        if self._sandboxed:
            # The sandbox itself would end at once, and nothing in it could say its last words.
            send([pid for pid in found if pid not in {self._command, -self._command}], signal.SIGTERM)
        else:
            send([-self._command], signal.SIGTERM)
            send([pid for pid, (_, group) in found.items() if group != self._command and pid > 0], signal.SIGTERM)
        if self._wait_until_gone(self._grace_s):
            return
        started_at = new_at = time.monotonic()
        killed: set[int] = set()
        while time.monotonic() < min(new_at + KILL_S, started_at + LAST_S):
            hit = kill(_children, lambda: survivors(os.getpid(), self._command), within_s=KILL_S)
            if hit - killed:
                new_at = time.monotonic()
                killed |= hit
            if self._wait_until_gone(0.05):
                return

    def _wait_until_gone(self, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        poller = self._poller()
        while not self._gone():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            # Only children ring.
            poller.poll(1000 * (left_s if self._adopting else min(left_s, 0.02)))
        return True

    def _gone(self) -> bool:
        if self._reap():
            return False
        # Every descendant of a subreaper has an ancestor that is its child.
        return self._adopting or all(state in "ZX" for state, _ in survivors(os.getpid(), self._command).values())

    def _reap(self) -> bool:
        """Take leave of the children that have ended; whether others are left."""
        try:  # noqa: SIM105 - contextlib takes too long to import
            os.read(self._bell, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._command:
                self._exited = True
                _tell("exited", os.waitstatus_to_exitcode(status))

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        return poller


def _tell(word: str, number: int) -> None:
    try:  # noqa: SIM105 - contextlib takes too long to import
        os.write(2, f"{word} {number}\n".encode())
    except OSError:  # the server has died
        pass


def main() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    fields = _read_order()
    if fields:
        grace_s, sandboxed, count = float(fields[0]), fields[1] == b"1", int(fields[2])
        pairs = (field.partition(b"=") for field in fields[3 + count :])
        environment = {name: value for name, _, value in pairs}
        adopting = _prepare(sandboxed=sandboxed)
        _Watch(grace_s, sandboxed=sandboxed, adopting=adopting).run(fields[3 : 3 + count], environment)
    os._exit(0)


if __name__ == "__main__":
    main()
