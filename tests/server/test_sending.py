"""A connection that outlasts who handles it."""

import os
import socket

import pytest

from opencode.server.sending import Sending


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending = Sending(ours, stall_s=5.0)
        yield sending, theirs
        sending.close()


def test_who_keeps_a_connection_keeps_it_from_one_close(pair):
    sending, theirs = pair
    theirs.settimeout(30)
    sending.keep()

    sending.close()
    sending.sendall(b"still there")
    assert theirs.recv(100) == b"still there"

    sending.close()
    assert theirs.recv(100) == b""


def test_a_connection_that_is_kept_anew_before_it_is_closed_keeps_its_descriptor(pair):
    sending, theirs = pair
    theirs.settimeout(30)
    sending.keep()
    sending.keep()

    sending.close()
    sending.close()

    os.write(sending.fileno(), b"still there")
    assert theirs.recv(100) == b"still there"


def test_what_was_read_too_far_comes_first_and_in_its_order(pair):
    sending, theirs = pair
    theirs.sendall(b"last")
    sending.unread(b"first, second, ")
    assert sending.recv(7) == b"first, "

    sending.unread(b"then ")

    assert sending.recv(5) == b"then "
    assert sending.recv(100) == b"second, "
    assert sending.recv(100) == b"last"
