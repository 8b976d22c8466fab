"""Commands in bubblewrap: what they reach, that they work, and that nothing of them is left."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opencode.errors import Cancelled
from opencode.tool.sandbox import find_sandbox
from tests.tool.boxed import boxed, require_bubblewrap
from tests.tool.desk import RIPGREP, Background, Desk, alive, left_behind, until
from tests.tool.test_supervisor import ESCAPES, length, marked, sleeps  # noqa: F401 - a fixture

require_bubblewrap()

SECRET = "apple of the neighbour"
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def desk(tmp_path):
    return boxed(tmp_path / "work")


# --- what they reach ---


def test_a_command_writes_in_the_sessions_directory(desk):
    assert desk.works("bash", command="pwd; mkdir sub; echo apple > sub/a.txt") == f"{desk.directory}\n"

    assert (desk.directory / "sub" / "a.txt").read_text() == "apple\n"
    assert "apple" in desk.works("bash", command="cat sub/a.txt")


def test_everything_else_is_gone_or_cannot_be_written(desk, tmp_path):
    # Given a neighbour and a home directory with a secret in it
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "a.txt").write_text(SECRET)
    (tmp_path / "home" / ".netrc").write_text(SECRET)

    # When
    seen = desk.works(
        "bash", command=f"cat ../neighbour/a.txt; cat {tmp_path}/home/.netrc; cat ~/.netrc; ls ..; ls -A ~"
    )
    wrote = desk.works(
        "bash", command="for f in /usr/x /usr/bin/x /etc/x /etc/passwd /bin/x; do echo x >> $f; done; exit 7"
    )

    # Then
    assert SECRET not in seen
    assert "neighbour" not in seen.replace("../neighbour", "")
    assert wrote.count("Read-only file system") + wrote.count("Permission denied") >= 4
    assert not Path("/etc/x").exists()
    assert "x\n" not in Path("/etc/passwd").read_text().splitlines()


def test_keys_and_passwords_in_etc_are_not_shown(desk):
    content = desk.works("bash", command="ls /etc/shadow /etc/gshadow /etc/sudoers /etc/ssh /etc/ssl/private")

    assert content.count("No such file or directory") == 5


def test_what_a_command_puts_elsewhere_is_gone_with_it(desk):
    name = f"opencode-{os.getpid()}"
    content = desk.works("bash", command=f"touch /tmp/{name} ~/{name} && ls /tmp /var/tmp ~; mktemp; echo $TMPDIR")

    assert content.count(f"{name}\n") == 2
    assert "/tmp/tmp." in content
    assert not Path(f"/tmp/{name}").exists()
    assert name not in desk.works("bash", command="ls /tmp ~")


def test_no_process_outside_is_seen_or_reached(desk):
    content = desk.works(
        "bash", command=f"ls /proc | grep -c '^[0-9]'; cat /proc/{os.getpid()}/environ; kill -0 {os.getpid()}; echo end"
    )

    assert int(content.split("\n")[0]) < 10
    assert "end" in content
    assert "No such" in content
    assert "PYTEST" not in content


def test_the_kernels_switches_cannot_be_written(desk):
    # Root may write these without any capability, and `core_pattern` would run a program outside.
    command = "cd /proc/sys/kernel; for f in core_pattern hostname; do cat $f > $f; done; echo s > /proc/sysrq-trigger; exit 1"
    content = desk.works("bash", command=command)

    assert content.count("Permission denied") + content.count("Read-only") + content.count("No such file") == 3


def test_no_privilege_can_be_gained(desk):
    status = desk.works("bash", command="grep -E 'CapEff|NoNewPrivs' /proc/self/status")

    capabilities = int(status.split()[1], 16)
    assert status.split()[3] == "1"
    assert capabilities & ~0xFB == 0
    assert AS_ROOT or capabilities == 0


def test_mounts_cannot_be_undone(desk, tmp_path):
    command = "umount -l ~ /tmp /proc/sys; mount -o remount,rw /usr; unshare -Urm sh -c 'umount -l /tmp; mount -o remount,rw,bind /usr && touch /usr/x'; exit 1"
    desk.works("bash", command=command)

    assert not Path("/usr/x").exists()


def test_the_servers_own_data_is_covered_where_it_lies_in_what_is_shown(tmp_path):
    # Given a server whose data lies in the session's directory, and another file of its own
    data = tmp_path / "work" / "data"
    data.mkdir(parents=True)
    (data / "store.sqlite3").write_text(SECRET)
    (tmp_path / "work" / "own.sqlite3").write_text(SECRET)
    desk = boxed(tmp_path / "work", private=(data, tmp_path / "work" / "own.sqlite3", tmp_path / "work" / "missing"))
    desk.put("near.txt", "apple\n")

    # When
    content = desk.works(
        "bash", command="ls -A data; cat data/* own.sqlite3; umount data; echo x > own.sqlite3; cat near.txt"
    )

    # Then
    assert SECRET not in content
    assert "apple" in content
    assert (tmp_path / "work" / "own.sqlite3").read_text() == SECRET
    assert desk.works("grep", pattern="apple") == "near.txt:1: apple"


def test_a_folder_on_the_path_and_what_is_set_as_readable_can_be_read_only(tmp_path):
    # Given programs in the home directory, beside other things
    home = tmp_path / "home"
    for folder in (home / "bin", home / ".pyenv", home / "docs", tmp_path / "data"):
        folder.mkdir(parents=True)
        (folder / "tool").write_text("#!/bin/sh\necho it runs\n")
        (folder / "tool").chmod(0o755)
    path = f"{home / 'bin'}:{home}:{tmp_path}:relative:{os.environ['PATH']}"
    desk = boxed(tmp_path / "work", home=home, path=path, readable=[tmp_path / "data"])

    # When
    content = desk.works(
        "bash", command=f"tool; ~/.pyenv/tool; {tmp_path}/data/tool; ls -A ~; echo x > ~/bin/tool; exit 1"
    )

    # Then
    assert content.count("it runs") == 3
    assert "docs" not in content
    assert (home / "bin" / "tool").read_text() == "#!/bin/sh\necho it runs\n"


def test_a_session_in_the_home_directory_sees_it(tmp_path):
    desk = boxed(tmp_path / "work", home=tmp_path / "work")
    desk.put("a.txt", "apple\n")

    assert desk.works("bash", command="cat ~/a.txt; echo pear > ~/b.txt") == "apple\n"
    assert (tmp_path / "work" / "b.txt").read_text() == "pear\n"


@pytest.mark.parametrize("network", [True, False])
def test_the_network_is_there_as_the_setting_says(tmp_path, network):
    desk = boxed(tmp_path / "work", network=network)
    connect = "import socket; socket.create_connection(('127.0.0.1', {}), 20).close(); print('connected')"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        desk.put("connect.py", connect.format(listener.getsockname()[1]))

        content = desk.works("bash", command="python3 connect.py")

    assert (content == "connected\n") == network


def test_the_environment_is_the_commands_own(desk):
    content = desk.works("bash", command="env")

    assert "TMPDIR=/tmp\n" in content
    assert "GIT_TERMINAL_PROMPT=0\n" in content
    assert "BWRAP" not in content


def test_a_session_in_the_root_of_everything_is_refused(desk):
    desk.directory = Path("/")

    assert "cannot be confined" in desk.fails("bash", command="true")


def test_a_directory_that_is_replaced_at_the_last_moment_is_not_worked_in(tmp_path):
    # Given the words for bubblewrap, which holds the directory by its path, and then another one in its place
    desk = boxed(tmp_path / "work")
    desk.put("a.txt", "apple\n")
    sandbox = desk.toolbox.specs(["bash"])[0]._sandbox
    status = desk.directory.stat()
    argv = sandbox.writing(["/bin/sh", "-c", "cat a.txt"], desk.directory, f"{status.st_dev}:{status.st_ino}")
    assert subprocess.run(argv, capture_output=True, timeout=30, check=False).stdout == b"apple\n"
    (tmp_path / "work").rename(tmp_path / "gone")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text(SECRET)
    (tmp_path / "work").symlink_to("other")

    # When
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)

    # Then
    assert ran.returncode == 126
    assert "was replaced" in ran.stderr
    assert ran.stdout == ""


# --- that they work ---


def test_compilers_and_interpreters_run(desk):
    desk.put("a.py", "import hashlib, json, ssl, sqlite3, tempfile\nprint(tempfile.gettempdir(), 'ok')\n")

    assert desk.works("bash", command="python3 a.py") == "/tmp ok\n"
    assert "(no output)" in desk.works("bash", command="git init -q . && git status --short > /dev/null")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exit 0", "(no output)"),
        ("exit 3", "[exit code 3]"),
        ("kill -KILL $$", "[exit code 137]"),
        ("no-such-command 2> /dev/null", "[exit code 127]"),
        ("echo one; echo two >&2; echo three", "one\ntwo\nthree\n"),
        ("cat; echo end", "end\n"),
    ],
)
def test_output_and_exit_codes_are_passed_on(desk, command, said):
    assert desk.works("bash", command=command, timeout_s=60) == said


def test_output_arrives_while_the_command_runs(desk):
    call = Background(
        lambda: desk.works("bash", command="echo first; until [ -e go ]; do sleep 0.02; done; echo second")
    )
    until(lambda: "first\n" in "".join(desk.live))
    assert call.thread.is_alive()
    desk.put("go")

    assert call.join() == "first\nsecond\n"


@pytest.mark.skipif(not AS_ROOT, reason="only root may give files away")
def test_root_may_unpack_and_work_on_files_of_others(desk):
    desk.put("theirs/a.txt", "apple\n")
    for path in (desk.directory, desk.directory / "theirs", desk.directory / "theirs" / "a.txt"):
        os.chown(path, 65534, 65534)
    (desk.directory / "theirs").chmod(0o700)

    command = "tar cf t.tar theirs && rm -r theirs && tar xf t.tar && cat theirs/a.txt && stat -c %u theirs"
    assert desk.works("bash", command=command) == "apple\n65534\n"


@pytest.mark.skipif(not AS_ROOT, reason="only root may become another")
def test_root_may_run_a_program_as_another_user(desk):
    desk.directory.chmod(0o755)
    become = (
        "import os; os.setgid(65534); os.setuid(65534); os.chdir(os.getcwd()); print(os.stat('/etc/passwd').st_uid)"
    )

    assert desk.works("bash", command=f'/usr/bin/env python3 -c "{become}" && ls -d /etc /sys > /dev/null') == "0\n"


def test_grep_finds_the_same_as_without_it(tmp_path):
    desk = boxed(tmp_path / "work")
    desk.put("a.txt", "apple\n")
    desk.put("sub/b.txt", "pear\napple pie\n")
    plain = Desk(desk.directory)

    for params in ({}, {"path": "sub"}, {"path": "sub/b.txt"}, {"include": "b.*"}, {"pattern": "("}):
        given = {"pattern": "apple"} | params
        assert desk.call("grep", **given) == plain.call("grep", **given)


SWAPPER = """
import os, sys
print("ready", flush=True)
while os.getppid() == int(sys.argv[1]):
    os.rename("sub", "kept"); os.rename("link", "sub")
    os.rename("sub", "link"); os.rename("kept", "sub")
"""


def test_grep_does_not_follow_a_symlink_that_is_put_in_its_way(desk, tmp_path):
    # Given many files, which `rg` opens by path, and a process that swaps their folder for a symlink to the outside
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    for number in range(1000):
        (tmp_path / "outside" / "deep" / f"{number}.txt").write_text(f"{SECRET}\n")
        desk.put(f"sub/deep/{number}.txt", "pear\n")
    (desk.directory / "link").symlink_to(tmp_path / "outside")
    command = [sys.executable, "-c", SWAPPER, str(os.getpid())]
    with subprocess.Popen(command, cwd=desk.directory, stdout=subprocess.PIPE) as swapper:
        try:
            swapper.stdout.readline()
            outcomes = []
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline or not outcomes:
                outcomes.append(desk.call("grep", pattern="apple").content)
        finally:
            swapper.kill()

    assert SECRET not in "".join(outcomes)


# --- that nothing is left ---


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_escape_outlives_the_command(tmp_path, length, escape):  # noqa: F811 - the fixture
    desk = boxed(tmp_path / "work", grace_s=0.2)
    command = f"{ESCAPES[escape].replace('N', length)} until [ -e go ]; do sleep 0.02; done; echo done"
    call = Background(lambda: desk.works("bash", command=command))
    until(lambda: sleeps(length))

    desk.put("go")

    assert call.join() == "done\n"
    assert not marked(length)


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_escape_outlives_an_abort_or_the_time_limit(tmp_path, length, escape):  # noqa: F811 - the fixture
    desk = boxed(tmp_path / "work", grace_s=0.2)
    command = f"{ESCAPES[escape].replace('N', length)} echo begun; sleep {length}"
    assert desk.fails("bash", command=command, timeout_s=1.5).startswith("begun\n[stopped: it took longer than 1.5 s")
    assert not marked(length)

    call = Background(lambda: desk.call("bash", command=command))
    until(lambda: len(sleeps(length)) == 2)
    desk.cancel.cancel("aborted")
    call.join()

    assert isinstance(call.error, Cancelled)
    assert not marked(length)


def test_a_command_that_is_stopped_is_asked_to_end_and_may_say_its_last_words(desk):
    desk.put("words", "trap 'sleep 0.2; echo asked > asked; exit' TERM; echo > up; while true; do sleep 0.05; done")
    call = Background(lambda: desk.call("bash", command="bash words"))
    until((desk.directory / "up").exists)

    desk.cancel.cancel("aborted")
    call.join()

    assert (desk.directory / "asked").read_text() == "asked\n"


def test_a_killed_supervisor_or_sandbox_takes_the_command_with_it(desk, length):  # noqa: F811 - the fixture
    for depth in (1, 2, 3):  # the sandbox's init, the sandbox, the supervisor
        call = Background(lambda: desk.call("bash", command=f"setsid sleep {length} & sleep {length}"))
        (pid, *_) = until(lambda: len(sleeps(length)) == 2 and sleeps(length))
        chain = [parent_of(pid)]
        while parent_of(chain[-1]) != os.getpid():
            chain.append(parent_of(chain[-1]))
        os.kill(chain[-depth], signal.SIGKILL)

        call.join()
        until(lambda: not marked(length))
        until(lambda chain=chain: not any(alive(each) for each in chain))


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


SERVER = """
import os, sys
from pathlib import Path
from tests.tool.boxed import boxed
boxed(Path(sys.argv[1])).call("bash", command=sys.argv[2])
"""


def test_everything_ends_with_a_killed_server(tmp_path, length):  # noqa: F811 - the fixture
    command = f"sleep {length} & setsid sleep {length} & sleep {length}"
    arguments = [sys.executable, "-c", SERVER, str(tmp_path / "work"), command]
    with subprocess.Popen(arguments, cwd=Path(__file__).parents[2]) as server:
        try:
            until(lambda: len(sleeps(length)) == 3)
        finally:
            server.kill()

    until(lambda: not marked(length))


def test_everything_ends_though_server_and_supervisor_are_killed_at_once(tmp_path, length):  # noqa: F811 - the fixture
    arguments = [sys.executable, "-c", SERVER, str(tmp_path / "work"), f"setsid sleep {length} & sleep {length}"]
    with subprocess.Popen(arguments, cwd=Path(__file__).parents[2]) as server:
        try:
            (pid, *_) = until(lambda: len(sleeps(length)) == 2 and sleeps(length))
            while parent_of(pid) != server.pid:
                pid = parent_of(pid)
            os.kill(server.pid, signal.SIGSTOP)
            os.kill(pid, signal.SIGKILL)
        finally:
            server.kill()

    until(lambda: not marked(length))


def test_no_descriptor_and_no_child_is_left_behind(tmp_path):
    calls = """
from tests.tool.boxed import boxed
box = boxed(desk.directory)
box.works("bash", command="sleep 300 & true")
box.fails("bash", command="sleep 60", timeout_s=0.3)
box.works("grep", pattern="x")
"""
    assert left_behind(tmp_path, calls) == (0, 0)


# --- whether it is there ---


def test_where_there_is_no_bubblewrap_the_way_to_get_it_is_named(tmp_path):
    assert find_sandbox({"PATH": str(tmp_path)}, network=True) == (
        None,
        "bubblewrap is not installed (apt install bubblewrap)",
    )


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "No permissions to create new namespace"),
        ("exit 5", "ended with exit code 5"),
        ("exit 0", "ended with exit code 0"),
        ("kill -9 $$", "exit code -9"),
    ],
)
def test_one_that_is_there_and_does_not_work_is_not_taken(tmp_path, program, said):
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "bwrap").chmod(0o755)

    sandbox, found = find_sandbox({"PATH": f"{tmp_path}:{os.environ['PATH']}"}, network=True)

    assert sandbox is None
    assert found.startswith("bubblewrap is installed but does not work here: ")
    assert said in found


def test_ripgrep_runs_from_wherever_it_is_installed(tmp_path):
    desk = boxed(tmp_path / "work", path=os.defpath)
    desk.put("a.txt", "apple\n")

    assert Path(RIPGREP).is_file()
    assert desk.works("grep", pattern="apple") == "a.txt:1: apple"
