"""Nothing that a command starts outlives its call or the server, wherever it hides."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opencode.errors import Cancelled
from opencode.tool import supervisor
from opencode.tool.bash import tool_environment
from tests.tool.desk import Background, Desk, alive, left_behind, pid_in, until

if not Path("/proc/self/stat").exists():
    pytest.skip("finds processes in /proc", allow_module_level=True)

SERVER = """
import os, sys
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
import threading
from pathlib import Path
from opencode.cancel import Cancel
from opencode.tool.bash import Bash, tool_environment
from opencode.tool.port import ToolContext

bash = Bash(environment=tool_environment(os.environ), grace_s=float(sys.argv[2]))
run = lambda: bash.run({"command": sys.argv[4]}, ToolContext(Path(sys.argv[3]), Cancel()))
call = threading.Thread(target=run)
call.start()
call.join()
"""

# Each starts a `sleep` that a signal to the command's group does not reach, or does not end; N is its length.
ESCAPES = {
    "session": "setsid sleep N &",
    "orphan": "(setsid sh -c 'sleep N; true' > /dev/null 2>&1 &);",
    "daemon": "setsid sh -c 'setsid sleep N &' &",
    "job": "set -m; sleep N & disown;",
    "deaf": """setsid sh -c "trap '' TERM HUP; sleep N; true" &""",
    "hidden": "(cd /; exec env -i /usr/bin/setsid -f sleep N > /dev/null 2>&1);",
    "stopped": "setsid sleep N & (until grep -qs sleep /proc/$!/comm; do :; done; kill -STOP $!);",
}

_numbers = itertools.count()


@pytest.fixture
def length():
    """The argument of a `sleep` that is nobody else's."""
    length = f"1000.{os.getpid()}{next(_numbers):04}"
    yield length
    for pid in marked(length):
        os.kill(pid, signal.SIGKILL)


def entries(*, zombies=False):
    """Pid and parent of every process that runs, or of those that have ended and nobody has waited for."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if (state in "ZX") == zombies:
            yield int(path.parent.name), int(parent)


def argv(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def marked(length):
    """The processes that were started with this mark: the shell, the sleeps and those between."""
    own = os.getpid()
    return [pid for pid, _ in entries() if pid != own and any(length in word for word in argv(pid))]


def sleeps(length):
    return [pid for pid, _ in entries() if argv(pid)[:2] == ["sleep", length]]


def supervisors(parent):
    return [pid for pid, of in entries() if of == parent and supervisor.__file__ in argv(pid)]


def start_server(directory, command, *, mode="threads", grace_s=1.0):
    arguments = [sys.executable, "-c", SERVER, mode, str(grace_s), str(directory), command]
    return subprocess.Popen(arguments, start_new_session=True, cwd=Path(supervisor.__file__).parents[2])


def run_directly(command, *, without="", environment=None, close=False):
    """The supervisor by itself, in which the statements `without` take something away from it."""
    program = f"{without}\nexec(compile(open({supervisor.__file__!r}).read(), 'supervisor', 'exec'))"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        if command:
            process.stdin.write(supervisor.order(["/bin/sh", "-c", command], environment or tool_environment({}), 0.3))
            process.stdin.flush()
        if close:
            process.stdin.close()
        words = process.stderr.read().decode()
        output = process.stdout.read().decode()
        return process.wait(20), words, output


# --- the server is killed ---


@pytest.mark.parametrize("mode", ["threads", "gevent"])
def test_everything_ends_within_two_seconds_of_the_servers_death(tmp_path, length, mode):
    # Given a server whose command has children in its group, in a session of their own, and without a parent
    command = f"sleep {length} & setsid sleep {length} & (nohup sh -c 'sleep {length}; true' &) ; sleep {length}"
    server = start_server(tmp_path, command, mode=mode)
    try:
        until(lambda: len(sleeps(length)) == 4)
        watching = supervisors(server.pid)
        assert len(watching) == 1

        # When
        server.kill()
        server.wait()
        killed_at = time.monotonic()
        until(lambda: not marked(length) and not any(alive(pid) for pid in watching))

        # Then
        assert time.monotonic() - killed_at < 2
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_escape_outlives_a_killed_server(tmp_path, length, escape):
    server = start_server(tmp_path, f"{ESCAPES[escape].replace('N', length)} sleep {length}", grace_s=0.2)
    try:
        until(lambda: len(sleeps(length)) == 2)

        server.kill()
        server.wait()

        until(lambda: not marked(length), 2)
    finally:
        server.kill()
        server.wait()


def test_a_killed_servers_command_is_asked_to_end_before_it_is_killed(tmp_path, length):
    server = start_server(tmp_path, f"trap 'echo $$ > asked; exit' TERM; sleep {length} & wait")
    try:
        until(lambda: sleeps(length))

        server.kill()
        server.wait()

        pid_in(tmp_path / "asked")
        until(lambda: not marked(length), 2)
    finally:
        server.kill()
        server.wait()


def test_a_server_that_died_before_it_gave_its_order_starts_nothing():
    assert run_directly("", close=True) == (0, "", "")


def test_a_server_that_died_while_it_gave_its_order_starts_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    order = supervisor.order(["/bin/sh", "-c", "echo > begun"], {}, 0.3)

    assert process.communicate(order[:-1], timeout=20) == (None, b"")
    assert not list(tmp_path.iterdir())


# --- the call ends ---


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_escape_outlives_the_command(tmp_path, length, escape):
    desk = Desk(tmp_path, bash={"grace_s": 0.2})
    command = f"{ESCAPES[escape].replace('N', length)} until [ -e go ]; do sleep 0.02; done; echo done"
    call = Background(lambda: desk.works("bash", command=command))
    until(lambda: sleeps(length))

    desk.put("go")

    assert call.join() == "done\n"
    assert not marked(length)


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_escape_outlives_the_time_limit(tmp_path, length, escape):
    desk = Desk(tmp_path, bash={"grace_s": 0.2})

    content = desk.fails(
        "bash", command=f"{ESCAPES[escape].replace('N', length)} echo begun; sleep {length}", timeout_s=1
    )

    assert content.startswith("begun\n[stopped: it took longer than 1 s")
    assert not marked(length)


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_escape_outlives_an_abort(tmp_path, length, escape):
    desk = Desk(tmp_path, bash={"grace_s": 0.2})
    call = Background(lambda: desk.call("bash", command=f"{ESCAPES[escape].replace('N', length)} sleep {length}"))
    until(lambda: len(sleeps(length)) == 2)

    desk.cancel.cancel("aborted")
    call.join()

    assert isinstance(call.error, Cancelled)
    assert not marked(length)


@pytest.mark.parametrize("hiding", ["", "setsid"])
def test_what_a_command_leaves_behind_is_asked_to_end_once_and_may_say_its_last_words(desk, hiding):
    desk.put(
        "server",
        """
        mkfifo quiet; exec 3<>quiet
        trap 'times+=x' TERM
        echo > up
        until [ "$times" ]; do read -t 0.02 -u 3; done
        read -t 0.2 -u 3; echo asked $times
        """,
    )

    content = desk.works("bash", command=f"{hiding} bash server & until [ -e up ]; do sleep 0.02; done; echo done")

    assert content == "done\nasked x\n"


def test_the_grace_after_the_command_is_not_counted_to_its_time_limit(desk, length):
    command = f"""setsid sh -c "trap '' TERM; echo > up; sleep {length}; true" & until [ -e up ]; do sleep 0.02; done; exit 5"""

    started_at = time.monotonic()
    assert desk.works("bash", command=command, timeout_s=0.9) == "[exit code 5]"

    assert time.monotonic() - started_at > 1
    assert not marked(length)


def test_many_escapes_are_all_found(desk, length):
    content = desk.works("bash", command=f"for i in $(seq 100); do setsid sleep {length} & done; echo done")

    assert content == "done\n"
    assert not marked(length)


@pytest.mark.parametrize("ending", ["", "sleep 60"])
def test_a_process_that_flees_by_forking_is_caught(tmp_path, length, ending):
    # Given processes that live only as long as it takes to start the next
    desk = Desk(tmp_path, bash={"grace_s": 0.1})
    flee = f"""trap '' TERM; : {length}; flee() {{ echo > up; flee & }}; flee > /dev/null 2>&1"""
    command = (
        f"for i in $(seq 8); do (setsid bash -c '{flee}' &) ; done; until [ -e up ]; do sleep 0.02; done; {ending}"
    )

    # When
    desk.call("bash", command=command, timeout_s=1)

    # Then
    assert not marked(length)


def test_orphans_that_end_are_not_left_as_zombies(desk, length):
    # Given a command that still runs when its twenty orphans have ended
    command = f"for i in $(seq 20); do (true &); done; sleep {length}; true"
    call = Background(lambda: desk.call("bash", command=command))
    (sleep,) = until(lambda: sleeps(length))
    parents = dict(entries())
    watching = parents[parents[sleep]]
    assert watching in supervisors(os.getpid())

    # Then
    until(lambda: watching not in dict(entries(zombies=True)).values(), 5)
    desk.cancel.cancel()
    call.join()


# --- what is passed on ---


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 0", "(no output)"),
        ("exit 1", "[exit code 1]"),
        ("exit 255", "[exit code 255]"),
        ("kill -INT $$", "[exit code 130: Interrupt]"),
        ("kill -KILL $$", "[exit code 137: Killed]"),
        ("kill -TERM $$", "[exit code 143: Terminated]"),
        ("ulimit -c 0; kill -SEGV $$", "[exit code 139: Segmentation fault]"),
        ("kill -HUP $$", "[exit code 129: Hangup]"),
        ("kill -USR1 $$", "[exit code 138: User defined signal 1]"),
        ("yes | head -n 1 > /dev/null; exit ${PIPESTATUS[0]}", "[exit code 141]"),
    ],
)
def test_the_way_a_command_ended_is_passed_on(desk, command, said):
    assert desk.works("bash", command=command) == said


def test_ten_megabytes_of_output_come_whole_and_in_order(tmp_path):
    desk = Desk(tmp_path, bash={"output_limit": 20_000_000})

    content = desk.works("bash", command="seq 1 1400000; echo end >&2")

    assert content == "".join(f"{number}\n" for number in range(1, 1_400_001)) + "end\n"


def test_a_command_longer_than_a_pipe_holds_arrives_whole(desk):
    assert desk.works("bash", command=f"text={'x' * 120_000}; echo ${{#text}}") == "120000\n"


def test_the_environment_is_passed_on_as_it_is(tmp_path):
    # Given one in which Python would set a variable for itself
    given = {"PATH": os.environ["PATH"], "LANG": "C", "ODD": "a=b\nc", "LATIN": os.fsdecode(b"caf\xe9")}
    desk = Desk(tmp_path, bash={"environment": given})

    content = desk.works("bash", command="env -0 | tr '\\0' '|'; printf %s \"$LATIN\" | od -An -tx1")

    assert "|ODD=a=b\nc|" in f"|{content}"
    assert content.endswith(" 63 61 66 e9\n")
    assert "LC_" not in content


def test_the_supervisor_holds_nothing_of_the_servers(desk, length, monkeypatch):
    # Given
    monkeypatch.setenv("OPENCODE_TOKENS", "sk-1")
    command = f": {length}; cat /proc/$PPID/environ; ls -l /proc/$PPID/fd; tr '\\0' ' ' < /proc/$PPID/cmdline"

    # When
    with (desk.directory / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        content = desk.works("bash", command=command)

    # Then
    assert "sk-1" not in content
    assert "PATH" not in content
    assert "/secret" not in content
    assert content.count(" -> ") <= 5  # its three streams and its bell
    assert content.splitlines()[-1].strip() == f"{sys.executable} -I -S {supervisor.__file__}"


# --- what a command may not ---


def effective(status):
    return int(re.search(r"^CapEff:\s*(\w+)", status, re.MULTILINE)[1], 16)


def test_a_command_has_no_capability_beyond_those_of_a_containers_root(desk):
    own = effective(Path("/proc/self/status").read_text())
    status = desk.works("bash", command="cat /proc/self/status; cat /proc/$PPID/status")
    command, watching = status.split("Name:")[1:]

    usual = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
    assert effective(command) == effective(watching) == own & usual


def test_a_command_of_root_cannot_look_into_processes_that_may_more(desk):
    ptrace = 1 << 19
    if not effective(Path("/proc/self/status").read_text()) & ptrace:
        pytest.skip("this process may no more than a command")

    content = desk.works("bash", command=f"cd /proc/{os.getpid()}; cat environ maps auxv 2>&1; ls -l fd/0 2>&1; id -u")

    assert content.count("ermission denied") == 4
    assert "libc" not in content


# --- the supervisor is attacked ---


def test_signals_that_ask_the_supervisor_to_end_do_not(desk):
    command = "for name in HUP INT QUIT TERM USR1 USR2 PIPE; do kill -$name $PPID; done; sleep 0.2; echo on; exit 3"

    assert desk.works("bash", command=command) == "on\n[exit code 3]"


def test_python_processes_can_be_ended_by_name_without_ending_the_supervisor(desk):
    assert desk.works("bash", command="cat /proc/$PPID/comm") == "opencode-bash\n"


@pytest.mark.parametrize(
    "children", ["sleep N &", "setsid sleep N &", "(sleep N > /dev/null 2>&1 &);", "set -m; (sleep N &);"]
)
def test_a_killed_supervisor_takes_the_command_with_it(desk, length, children):
    command = f"{children.replace('N', length)} echo begun; sleep 0.2; kill -KILL $PPID; sleep {length}"

    content = desk.fails("bash", command=command, timeout_s=30)

    assert content.startswith("begun\n[stopped: ")
    until(lambda: not marked(length), 2)


def test_a_supervisor_that_the_command_stops_still_ends_it(desk, length):
    command = f"setsid sleep {length} & kill -STOP $PPID; sleep {length}"

    started_at = time.monotonic()
    content = desk.fails("bash", command=command, timeout_s=0.5)

    assert "longer than 0.5 s" in content
    assert time.monotonic() - started_at < 4
    assert not marked(length)


def test_a_command_that_writes_to_the_supervisors_stream_does_no_harm(desk):
    command = (
        "head -c 1000000 /dev/zero | tr '\\0' x > /proc/$PPID/fd/2; echo exited soon > /proc/$PPID/fd/2; echo done"
    )

    assert "done\n" in desk.call("bash", command=command, timeout_s=20).content


def test_no_descriptor_and_no_zombie_is_left_by_a_lost_supervisor(tmp_path):
    assert left_behind(tmp_path, 'desk.fails("bash", command="kill -KILL $PPID; sleep 60")') == (0, 0)


# --- where the system offers less ---

NO_SUBREAPER = "import sys; sys.modules['ctypes'] = None"
NO_PROC = f"{NO_SUBREAPER}\nimport os\ndef gone(path): raise FileNotFoundError(path)\nos.listdir = gone"


@pytest.mark.parametrize("without", ["", NO_SUBREAPER, NO_PROC], ids=["linux", "no-subreaper", "no-proc"])
@pytest.mark.parametrize("deaf", ["", "trap '' TERM;"])
def test_the_group_ends_with_the_command_on_any_system(tmp_path, length, without, deaf):
    command = f"({deaf} sleep {length}; true) > /dev/null 2>&1 & echo out; exit 4"

    code, words, output = run_directly(command, without=without)

    assert code == 0
    assert words.splitlines()[1:] == ["exited 4"]
    assert output == "out\n"
    until(lambda: not marked(length), 2)


@pytest.mark.parametrize("without", [NO_SUBREAPER, NO_PROC], ids=["no-subreaper", "no-proc"])
def test_a_command_alone_ends_at_once_on_any_system(without):
    started_at = time.monotonic()

    code, words, _ = run_directly("exit 3", without=without)

    assert (code, words.splitlines()[1:]) == (0, ["exited 3"])
    assert time.monotonic() - started_at < 1


def test_a_program_that_is_not_there_is_told(desk, monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )

    _, words = process.communicate(supervisor.order(["/no/such/program"], {}, 0.3), timeout=20)

    assert words == b"failed 2\n"


def test_an_order_with_a_nul_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        supervisor.order(["/bin/sh", "-c", "a\0b"], {}, 1.0)


def test_calls_at_once_end_only_their_own(tmp_path, length):
    # Given two calls, one of which ends
    desks = [Desk(tmp_path / name) for name in ("one", "two")]
    for desk in desks:
        desk.directory.mkdir()
    command = f"setsid sleep {length} & echo $! > pid; until [ -e go ]; do sleep 0.02; done; echo done"
    calls = [Background(lambda desk=desk: desk.works("bash", command=command)) for desk in desks]
    pids = [pid_in(desk.directory / "pid") for desk in desks]

    # When
    desks[0].put("go")
    calls[0].join()

    # Then
    assert not alive(pids[0])
    assert alive(pids[1])
    desks[1].put("go")
    calls[1].join()
    assert not marked(length)
