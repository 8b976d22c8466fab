"""The tool `bash`: real commands, in threads and, patched, in greenlets."""

import os
import threading
import time

import pytest

from opencode.errors import Cancelled
from opencode.tool.bash import tool_environment
from tests.tool.desk import Background, Desk, alive, left_behind, pid_in, until

LINGER = "sleep 300 & echo $! > pid;"


def test_output_and_errors_come_back_in_the_order_they_were_printed(desk):
    content = desk.works("bash", command="echo one; echo two >&2; echo three")

    assert content == "one\ntwo\nthree\n"
    assert "".join(desk.live) == content


def test_a_command_runs_in_the_sessions_directory(desk):
    assert desk.works("bash", command="pwd") == f"{desk.directory}\n"


def test_a_command_that_prints_nothing_says_so(desk):
    assert desk.works("bash", command="true") == "(no output)"


def test_an_exit_code_is_information_and_not_an_error(desk):
    assert desk.works("bash", command="echo 2 failed; exit 1") == "2 failed\n[exit code 1]"
    assert desk.works("bash", command="printf half; exit 3") == "half\n[exit code 3]"
    assert desk.works("bash", command="no-such-command").endswith("not found\n[exit code 127]")


def test_a_command_ended_by_a_signal_says_which(desk):
    assert desk.works("bash", command="echo on; kill -9 $$") == "on\n[exit code 137: Killed]"


def test_a_command_that_reads_finds_no_input(desk):
    assert desk.works("bash", command="cat; echo end", timeout_s=20) == "end\n"


def test_a_command_has_no_terminal_to_ask_on(desk):
    assert "[exit code 1]" in desk.works("bash", command="( : < /dev/tty ) 2> /dev/null || exit 1", timeout_s=20)


def test_bash_itself_runs_the_command(desk):
    assert desk.works("bash", command="set -o pipefail; [[ x == x ]] && words=(a b); echo ${words[1]}") == "b\n"


def test_the_servers_secrets_are_not_in_the_environment(tmp_path):
    # Given a server with keys in its environment
    hidden = (
        "ANTHROPIC_API_KEY OPENCODE_TOKENS DATABASE_URL AWS_SECRET_ACCESS_KEY VIRTUAL_ENV LC_API_KEY PATH_TOKEN"
        " BASH_ENV LD_PRELOAD http_proxy BASH_FUNC_ls%%"
    )
    shown = {"PATH": os.environ["PATH"], "HOME": "/home/me", "LC_ALL": "C.UTF-8"}
    environ = shown | dict.fromkeys(hidden.split(), "sk-1")
    desk = Desk(tmp_path, bash={"environment": tool_environment(environ)})

    # When
    content = desk.works("bash", command="env")

    # Then
    seen = dict(line.split("=", 1) for line in content.splitlines())
    assert seen.keys() - tool_environment({}).keys() <= {"HOME", "LC_ALL", "PWD", "SHLVL", "_"}
    assert seen["PATH"] == os.environ["PATH"]
    assert seen["HOME"] == "/home/me"
    assert "sk-1" not in content


def test_nothing_in_the_environment_prompts_or_pages():
    environment = tool_environment({"PAGER": "less", "TERM": "xterm"})

    assert environment["PAGER"] == environment["GIT_PAGER"] == "cat"
    assert environment["GIT_TERMINAL_PROMPT"] == "0"
    assert environment["TERM"] == "xterm"


def test_output_arrives_while_the_command_runs(desk):
    # Given a command that goes on only when it is told to
    call = Background(
        lambda: desk.works("bash", command="echo first; until [ -e go ]; do sleep 0.02; done; echo second")
    )

    # When its first line has come
    until(lambda: "first\n" in "".join(desk.live))
    assert call.thread.is_alive()
    desk.put("go")

    # Then
    assert call.join() == "first\nsecond\n"
    assert "".join(desk.live) == "first\nsecond\n"


def test_small_pieces_are_gathered(desk):
    desk.works("bash", command="for i in $(seq 2000); do echo $i; done")

    assert "".join(desk.live) == "".join(f"{number}\n" for number in range(1, 2001))
    assert len(desk.live) < 50


def test_a_character_whose_bytes_arrive_apart_stays_whole(desk):
    command = r"printf 'caf\303'; until [ -e go ]; do sleep 0.02; done; printf '\251'; printf '\377'"
    call = Background(lambda: desk.works("bash", command=command))
    until(lambda: "".join(desk.live) == "caf")
    desk.put("go")

    assert call.join() == "café\N{REPLACEMENT CHARACTER}"
    assert "".join(desk.live) == "café\N{REPLACEMENT CHARACTER}"


def test_a_nul_in_the_output_is_replaced(desk):
    assert desk.works("bash", command=r"printf 'a\0b'") == "a\N{REPLACEMENT CHARACTER}b"


def test_long_output_keeps_its_beginning_and_its_end(tmp_path):
    desk = Desk(tmp_path, bash={"output_limit": 1000})

    content = desk.works("bash", command="seq 1 100000")

    whole = "".join(f"{number}\n" for number in range(1, 100_001))
    assert content.startswith(whole[:500])
    assert content.endswith(whole[-500:])
    assert f"[{len(whole) - 1000:,} characters left out here" in content
    assert "redirected to a file" in content


@pytest.mark.parametrize("length", [999, 1000, 1001])
def test_output_is_cut_only_above_the_limit(tmp_path, length):
    desk = Desk(tmp_path, bash={"output_limit": 1000})

    content = desk.works("bash", command=f"head -c {length} /dev/zero | tr '\\0' x")

    assert ("left out" in content) == (length > 1000)
    assert ("more is printed" in "".join(desk.live)) == (length > 1000)


def test_endless_output_is_stopped_by_the_time_limit_and_stays_small(desk):
    content = desk.fails("bash", command="yes", timeout_s=1)

    assert "stopped: it took longer than 1 s" in content
    assert "left out" in content
    assert len(content) < 31_000
    assert len("".join(desk.live)) < 31_000
    assert len(desk.live) < 20


def test_the_time_limit_ends_the_whole_group_and_keeps_the_output(desk):
    content = desk.fails("bash", command=f"echo begun; {LINGER} wait", timeout_s=0.5)

    assert content.startswith("begun\n[stopped: it took longer than 0.5 s")
    assert "timeout_s can be up to 600" in content
    assert not alive(pid_in(desk.directory / "pid"))


def test_a_process_that_ignores_the_request_to_end_is_killed(tmp_path):
    desk = Desk(tmp_path, bash={"grace_s": 0.2})
    command = "trap '' TERM; echo $$ > pid; while true; do sleep 0.1; done"

    desk.fails("bash", command=command, timeout_s=0.5)

    assert not alive(pid_in(desk.directory / "pid"))


def test_a_time_limit_above_the_highest_is_cut_to_it(tmp_path):
    desk = Desk(tmp_path, bash={"max_timeout_s": 0.3})

    assert "longer than 0.3 s" in desk.fails("bash", command="sleep 60", timeout_s=5000)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "soon"])
def test_a_time_limit_that_is_none_is_refused(desk, value):
    assert "`timeout_s` should be" in desk.fails("bash", command="true", timeout_s=value)


@pytest.mark.parametrize("command", [f"{LINGER} wait", f"exec > /dev/null 2>&1; {LINGER} wait", f"{LINGER} yes"])
def test_an_abort_ends_the_whole_group_at_once(desk, command):
    # Given
    call = Background(lambda: desk.call("bash", command=command))
    pid = pid_in(desk.directory / "pid")

    # When
    aborted_at = time.monotonic()
    desk.cancel.cancel("aborted")
    call.join()

    # Then
    assert time.monotonic() - aborted_at < 3
    assert isinstance(call.error, Cancelled)
    assert not alive(pid)


def test_a_child_left_behind_neither_holds_up_the_call_nor_outlives_it(desk):
    content = desk.works("bash", command=f"{LINGER} echo done", timeout_s=60)

    assert content == "done\n"
    assert not alive(pid_in(desk.directory / "pid"))


def test_a_child_left_behind_that_prints_for_ever_does_not_hold_up_the_call(desk):
    assert desk.works("bash", command="yes & echo $! > pid; exit 4", timeout_s=60).endswith("[exit code 4]")
    assert not alive(pid_in(desk.directory / "pid"))


def test_what_was_printed_last_arrives_though_the_command_has_ended(desk):
    # Given a listener that takes its time with the first line, until the shell is gone
    def slow(_text):
        if not desk.live:
            desk.live.append("slow")
            desk.put("go")
            until(lambda: not alive(pid_in(desk.directory / "pid")))

    context = desk.context()
    context.output = slow

    # When
    command = "echo first; until [ -e go ]; do sleep 0.02; done; seq 1 5000; sleep 300 & echo $$ > pid"
    outcome = desk.toolbox.run("bash", {"command": command}, context)

    # Then
    assert outcome.content.startswith("first\n1\n2\n")
    assert outcome.content.endswith("\n4999\n5000\n")


def test_a_command_that_closes_its_output_is_still_waited_for(desk):
    command = "exec >&- 2>&-; until [ -e go ]; do sleep 0.02; done; exit 3"
    call = Background(lambda: desk.works("bash", command=command))
    assert not threading.Event().wait(0.1)
    assert call.thread.is_alive()
    desk.put("go")

    assert call.join() == "[exit code 3]"


def test_others_go_on_while_a_command_runs(desk):
    call = Background(lambda: desk.works("bash", command="sleep 1; echo slept"))

    turns = 0
    moment = threading.Event()
    while call.thread.is_alive():
        moment.wait(0.01)
        turns += 1

    assert call.join() == "slept\n"
    assert turns > 30


def test_others_go_on_while_a_command_prints_without_end(desk):
    call = Background(lambda: desk.fails("bash", command="yes", timeout_s=1))

    turns = 0
    moment = threading.Event()
    while call.thread.is_alive():
        moment.wait(0.01)
        turns += 1

    assert turns > 15


def test_many_commands_run_at_once(desk):
    calls = [Background(lambda n=n: desk.works("bash", command=f"sleep 0.3; echo {n}")) for n in range(12)]

    assert [call.join() for call in calls] == [f"{n}\n" for n in range(12)]


def test_a_listener_that_fails_ends_the_command(desk):
    def fail(_text):
        raise RuntimeError("no one is there")

    desk.live = type("Deaf", (), {"append": staticmethod(fail)})()

    outcome = desk.call("bash", command=f"{LINGER} echo; wait")

    assert outcome.is_error
    assert not alive(pid_in(desk.directory / "pid"))


def test_no_descriptor_and_no_child_is_left_behind(tmp_path):
    calls = """
desk.fails("bash", command="x" * 3_000_000)
desk.works("bash", command="sleep 300 & true")
desk.fails("bash", command="sleep 60", timeout_s=0.05)
"""
    assert left_behind(tmp_path, calls) == (0, 0)


def test_the_servers_descriptors_are_not_passed_on(desk):
    with (desk.directory / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        content = desk.works("bash", command="ls -l /proc/self/fd")

    assert "/open" not in content


def test_a_command_too_long_for_the_system_is_refused(desk):
    message = desk.fails("bash", command="true " + "x" * 3_000_000)

    assert "could not be started: Argument list too long" in message
    assert len(message) < 200
