import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode.sse_reader import SseError, SseEvent, SseReader, read_events

pytestmark = pytest.mark.once

LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n"), max_size=20)


def events_of(*chunks):
    return list(read_events(chunks))


def in_pieces(data, cuts):
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@st.composite
def streams(draw):
    lines = draw(st.lists(st.tuples(st.sampled_from(["data", "event", "id", "", "other"]), TEXT), max_size=12))
    data = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    for field, text in lines:
        data += f"{field}: {text}".encode() + draw(LINE_ENDS)
        data += draw(st.sampled_from([b"", b"\n", b"\r\n", b"\r"]))
    return data


@given(streams(), st.lists(st.integers(min_value=0, max_value=10_000), max_size=30))
def test_however_the_bytes_are_cut_the_events_are_the_same(data, cuts):
    assert events_of(*in_pieces(data, cuts)) == events_of(data)


@given(streams())
def test_bytes_one_by_one_give_the_same_events(data):
    assert events_of(*(bytes([byte]) for byte in data)) == events_of(data)


@given(TEXT, LINE_ENDS)
def test_data_comes_through_unchanged_whatever_ends_the_lines(text, end):
    stream = b"data: " + text.encode() + end + end

    assert events_of(stream) == [SseEvent("message", text.encode())]


def test_an_event_has_its_name_and_the_next_one_has_not():
    assert events_of(b"event: ping\ndata: 1\n\ndata: 2\n\n") == [SseEvent("ping", b"1"), SseEvent("message", b"2")]


def test_data_of_several_lines_is_joined_by_line_feeds():
    assert events_of(b"data: one\r\ndata:two\r\ndata\r\n\r\n") == [SseEvent("message", b"one\ntwo\n")]


def test_only_one_space_after_the_colon_is_taken_off():
    assert events_of(b"data:  two\n\n") == [SseEvent("message", b" two")]


def test_comments_and_unknown_fields_and_events_without_data_are_nothing():
    assert events_of(b": keep-alive\n\nid: 7\nretry: 10\n\nevent: empty\n\ndata: x\n\n") == [SseEvent("message", b"x")]


def test_line_separators_of_unicode_end_no_line():
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf"

    assert events_of(f"data: {text}\n\n".encode()) == [SseEvent("message", text.encode())]


def test_a_byte_order_mark_counts_only_at_the_start():
    assert events_of(b"\xef\xbb", b"\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n") == [SseEvent("message", b"1")]


def test_an_event_is_given_with_the_chunk_that_completes_it():
    reader = SseReader()

    assert reader.feed(b"data: 1\r") == []
    assert reader.feed(b"\n\r") == [SseEvent("message", b"1")]
    assert reader.feed(b"\ndata: 2\n\n") == [SseEvent("message", b"2")]


def test_what_follows_the_last_blank_line_is_no_event():
    assert events_of(b"data: 1\n\ndata: 2\n") == [SseEvent("message", b"1")]


@pytest.mark.parametrize("chunk", [b"x" * 40, b"data: x\n" * 5])
def test_an_event_without_end_is_refused(chunk):
    reader = SseReader(max_event_bytes=100)

    with pytest.raises(SseError):
        [reader.feed(chunk) for _ in range(3)]


def test_many_events_may_be_longer_together_than_one_may_be():
    reader = SseReader(max_event_bytes=100)

    assert sum(len(reader.feed(b"data: 123456\n\n")) for _ in range(1000)) == 1000


def test_an_event_tells_its_own_id_and_the_reader_the_last_one():
    reader = SseReader()

    events = reader.feed(b"id: 7\ndata: 1\n\ndata: 2\n\n")

    assert [event.id for event in events] == ["7", None]
    assert reader.last_id == "7"


def test_an_id_and_a_blank_line_say_where_the_reader_is():
    reader = SseReader()

    assert reader.feed(b"retry: 2000\nid: 41\n") == []
    assert reader.last_id is None  # not before the blank line: the event may be cut off
    assert reader.feed(b"\n") == []
    assert (reader.last_id, reader.retry_ms) == ("41", 2000)


@pytest.mark.parametrize("line", [b"retry: soon", b"retry: -1", b"retry: 1e3", b"retry: 9999999999", b"retry:"])
def test_a_retry_that_is_no_time_is_ignored(line):
    reader = SseReader()
    reader.feed(b"retry: 5\n" + line + b"\n\n")

    assert reader.retry_ms == 5


def test_an_id_with_a_nul_is_ignored():
    assert SseReader().feed(b"id: 1\0\ndata: x\n\n") == [SseEvent("message", b"x")]
