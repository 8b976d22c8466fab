"""Servers that are really killed, at any moment: what a client saw stands, and the turn comes to one end."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opencode.provider.port import Text, ToolCall
from opencode.provider.scripted import Repeat
from tests.session.story import OWNER, Story, assert_whole_turn, names, said

ROOT = Path(__file__).resolve().parents[2]


def script():
    words = Repeat(30, "w{n} ", every_s=0.002)
    return [
        [words, ToolCall("a", "bash", {"command": "echo one >> ran.txt; sleep 0.05"})],
        [words, ToolCall("b", "bash", {"command": "echo two >> ran.txt"})],
        [words, Text("end")],
    ]


def serve(place: str) -> None:
    """Run one turn and print what a follower sees, as it sees it."""
    story = Story(Path(place), script())
    session = story.session()
    turn = story.send(session, "go")
    print(json.dumps([session.id, turn.id]), flush=True)
    for chunk in story.follow(session, 0, turn=turn):
        if chunk is not None:
            print(json.dumps(chunk.data.decode()), flush=True)
    print(json.dumps(""), flush=True)
    sys.stdin.read()


def killed_after(place: Path, enough: int) -> tuple[Path, str, str, str]:
    place.mkdir()
    code = "import sys; from tests.session.test_recovery import serve; serve(sys.argv[1])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, place], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    session_id, turn_id = json.loads(process.stdout.readline())
    told = ""
    while len(told) < enough and (piece := json.loads(process.stdout.readline())):
        told += piece
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return place, session_id, turn_id, told


def test_after_a_kill_at_any_moment_what_was_seen_stands_and_the_turn_comes_to_one_end(tmp_path):
    # Given servers in processes of their own, each killed once its follower has seen so many bytes
    moments = [1, 4_500, 8_000]
    with ThreadPoolExecutor() as pool:
        lives = list(pool.map(lambda enough: killed_after(tmp_path / f"{enough}", enough), moments))

    for place, session_id, turn_id, told in lives:
        # When the next life of the server opens its store
        story = Story(place, script())
        turn = story.sessions.store.turn(session_id, turn_id)
        events = story.until_done(turn)

        # Then nothing that was seen has changed, the turn has one end, and no tool was run twice on its own
        stored = "".join(chunk.data.decode() for chunk in follow(story, session_id))
        assert stored.startswith(told)
        assert_whole_turn(events)
        assert names(events).count("turn_start") == 1
        ran = (story.directory / "ran.txt").read_text().split() if (story.directory / "ran.txt").exists() else []
        assert sorted(set(ran)) == sorted(ran)
        message = story.sessions.message(turn)
        assert message.content == said(events)
        assert [message.content.count(word) for word in ("w30 ", "end")] == [3, 1]
        story.stop()


def follow(story, session_id):
    return story.sessions.follow(OWNER, session_id, after=0, beat_s=1, live=False).chunks
