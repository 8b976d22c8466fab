"""The tail by itself, in the orders that only threads bring about."""

from opencode.session.tail import Chunk, Tail


def frames_of(first, count, size=10):
    return [f"{n:0>{size}}".encode() for n in range(first, first + count)]


def test_frames_stored_before_the_store_was_asked_are_not_given_twice():
    tail = Tail(0)
    tail.extend(5, frames_of(5, 2))

    tail.start_at(4)

    assert tail.last_seq == 6
    assert tail.after(4) == Chunk(5, 6, b"".join(frames_of(5, 2)))
    assert tail.after(0) is None  # the store has what came before


def test_an_answer_of_the_store_that_is_newer_drops_what_was_held():
    tail = Tail(0)
    tail.extend(2, frames_of(2, 1))

    tail.start_at(7)
    tail.extend(7, frames_of(7, 1))

    assert tail.last_seq == 7
    assert tail.after(1) is None
    tail.extend(8, frames_of(8, 1))
    assert tail.after(7) == Chunk(8, 8, frames_of(8, 1)[0])


def test_frames_that_do_not_follow_on_begin_the_tail_anew():
    tail = Tail(0)
    tail.extend(1, frames_of(1, 2))

    tail.extend(5, frames_of(5, 2))

    assert tail.after(2) is None
    assert tail.after(4) == Chunk(5, 6, b"".join(frames_of(5, 2)))


def test_what_has_left_the_tail_is_not_given_and_the_rest_is_given_whole():
    tail = Tail(0, limit_bytes=35)
    tail.extend(1, frames_of(1, 5))

    assert [tail.after(seq) and tail.after(seq).data for seq in range(6)] == [
        *(None, None),
        *(b"".join(frames_of(seq + 1, 5 - seq)) for seq in (2, 3, 4)),
        None,
    ]


def test_one_frame_larger_than_the_tail_is_held_nevertheless():
    tail = Tail(0, limit_bytes=5)
    tail.extend(1, frames_of(1, 3))

    assert tail.after(2) == Chunk(3, 3, frames_of(3, 1)[0])


def test_those_who_stand_at_the_same_place_share_one_chunk_until_more_comes():
    tail = Tail(0)
    tail.extend(1, frames_of(1, 3))

    assert tail.after(1) is tail.after(1)
    tail.extend(4, frames_of(4, 1))
    assert tail.after(1) == Chunk(2, 4, b"".join(frames_of(2, 3)))
