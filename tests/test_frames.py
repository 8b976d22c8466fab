import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencode import frames

pytestmark = pytest.mark.once

words = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
data = st.dictionaries(words, values, max_size=4)


def test_a_frame_is_what_the_wire_asks_for():
    (frame,) = frames.numbered([frames.body("text", {"content": "a\nb"})], 7)

    assert frame == b'id: 7\nevent: text\ndata: {"content":"a\\nb"}\n\n'


@settings(max_examples=40, deadline=None)
@given(st.lists(data, max_size=6), st.integers(1, 2**53))
def test_frames_that_are_joined_come_apart_and_back_whatever_they_hold(items, first_seq):
    made = frames.numbered([frames.body("e", item) for item in items], first_seq)

    assert frames.split(b"".join(made)) == made
    assert [frames.parse(frame) for frame in made] == [(first_seq + n, "e", item) for n, item in enumerate(items)]


@settings(max_examples=40, deadline=None)
@given(data)
def test_a_frame_has_three_lines_for_every_reader_of_event_streams(item):
    (frame,) = frames.numbered([frames.body("e", item)], 1)

    lines = frame.split(b"\n")
    assert len(lines) == 5
    assert b"\r" not in frame
    assert [line.partition(b": ")[0] for line in lines] == [b"id", b"event", b"data", b"", b""]


def test_a_body_that_is_a_function_is_asked_with_its_number():
    made = frames.numbered([frames.body("a", {}), lambda seq: frames.body("b", {"seq": seq})], 10)

    assert [frames.parse(frame) for frame in made] == [(10, "a", {}), (11, "b", {"seq": 11})]


def test_what_cannot_be_json_is_refused_when_it_is_written():
    for item in ({"text": "\ud800"}, {"x": object()}, {1: "x"}):
        with pytest.raises(TypeError):
            frames.body("e", item)


def test_nothing_comes_apart_into_nothing():
    assert frames.split(b"") == []
    assert frames.numbered([], 1) == []
