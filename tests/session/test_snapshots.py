"""The promise of a session's `seq`: a snapshot and the events above it join, at any moment, without gap or double."""

from dataclasses import dataclass

from opencode.errors import ProviderError
from opencode.provider.port import Reasoning, Text, ToolCall, Usage
from opencode.provider.scripted import Fail, Repeat
from tests.session.story import OWNER, assert_whole_turn, each, names, said

BUSY = ProviderError("busy", code="PROVIDER_UNAVAILABLE", retryable=True, retry_after_s=0.02)


@dataclass(frozen=True)
class Moment:
    """What a client that opens the page in this moment is given."""

    seq: int
    content: str
    calls: list[str]
    results: list[str]
    title: str


def look(story, session) -> Moment:
    shown, messages, _older = story.sessions.snapshot(OWNER, session.id, limit=9, before=None)
    tools = [part for part in messages[-1].parts if part["type"] == "tool"]
    return Moment(
        shown.folded_seq,
        messages[-1].content,
        [part["call_id"] for part in tools],
        [part["call_id"] for part in tools if "result" in part],
        shown.title,
    )


def test_whenever_a_page_is_opened_what_it_shows_and_what_follows_make_the_final_message(play):
    # Given a long turn: text, tools, an answer that breaks off and is asked for anew
    words = Repeat(25, "w{n} ", every_s=0.001)
    count = ToolCall("b", "bash", {"command": "for i in 1 2 3; do echo $i; done"})
    write = ToolCall("c", "write", {"path": "x", "content": "y"})
    story = play(
        [
            [words, ToolCall("a", "list", {}), count],
            [Reasoning("hm"), words, Fail(BUSY, times=2), Text("again "), write],
            [words, Usage(5, 5), ToolCall("d", "read", {"path": "missing"})],
            [words, Text("end")],
        ]
    )
    session = story.session(tools=("bash", "list", "read", "write"))
    turn = story.send(session)

    # When pages are opened at every moment of it, and the session is changed meanwhile
    moments = []
    for event in each(story.follow(session, 0, turn=turn)):
        moments.append(look(story, session))
        if event.name == "tool_result":
            story.sessions.update(OWNER, session.id, {"title": f"title {event.seq}"})
    moments.append(look(story, session))

    # Then each of them, with the events above its number, comes to the final message
    assert_whole_turn(story.until_done(turn))
    events = story.stored(session)
    assert names(events).count("session_updated") == 4
    last = moments[-1]
    assert last.content == said(events)
    assert len(last.results) == len(last.calls) == 4
    assert len({moment.seq for moment in moments}) >= 4
    for moment in moments:
        above = list(each(story.follow(session, moment.seq, live=False)))
        assert above == events[moment.seq :]
        assert moment.content + said(above) == last.content
        assert moment.calls + [event.data["call_id"] for event in above if event.name == "tool_call"] == last.calls
        results = [event.data["call_id"] for event in above if event.name == "tool_result"]
        assert moment.results + results == last.results
        titles = [event.data["changed"]["title"] for event in above if event.name == "session_updated"]
        assert (titles or [moment.title])[-1] == last.title


def test_the_next_turns_first_page_holds_the_whole_of_the_last(play):
    story = play([[Text("one")], [Text("two")]])
    session = story.session()
    story.tell(session)

    moment = look(story, session)

    assert moment.seq == len(story.stored(session))
    assert moment.content == "one"
    story.tell(session)
    assert said(each(story.follow(session, moment.seq, live=False))) == "two"
