import re
import subprocess
import sys
import threading
import time

from opencode.ids import made_at, new_id


def test_an_id_has_its_prefix_and_the_layout_of_a_ulid():
    assert re.fullmatch(r"ses_[0-9a-hjkmnp-tv-z]{26}", new_id("ses"))


def test_ids_sort_by_the_order_in_which_they_were_made():
    made = [new_id("msg") for _ in range(20_000)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_tells_when_it_was_made():
    before = time.time()
    identifier = new_id("per")

    # To the millisecond; the ids before it may have been counted up beyond theirs.
    assert before - 0.001 <= made_at(identifier) <= time.time() + 1


def test_ids_of_many_threads_differ_and_sort_within_each_thread():
    made: list[list[str]] = [[] for _ in range(8)]
    threads = [
        threading.Thread(target=lambda own: own.extend(new_id("x") for _ in range(2000)), args=(own,)) for own in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert all(own == sorted(own) for own in made)
    assert len({one for own in made for one in own}) == 16_000


def test_an_id_begins_with_the_time_it_was_made_at():
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    before = time.time_ns() // 1_000_000

    made = new_id("trn").removeprefix("trn_")

    milliseconds = 0
    for letter in made[:10]:
        milliseconds = milliseconds * 32 + alphabet.index(letter)
    # Ids made just before, within one millisecond, may have counted a little ahead.
    assert before - 1 <= milliseconds <= time.time_ns() // 1_000_000 + 50


def test_another_process_does_not_make_the_same_ids():
    code = "from opencode.ids import made_at, new_id; print(new_id('x')); print(new_id('x'))"

    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert len({*theirs, new_id("x"), new_id("x")}) == 4
    assert theirs == sorted(theirs)
