"""An answer's chunks: whatever they are cut into on the way, the same body comes of them."""

import contextlib
import itertools
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencode.provider.chunked import ChunkError, Chunks
from opencode.provider.openai import OpenAI
from opencode.provider.port import Text
from tests.provider.asking import ask, failure_of

LAST = b"0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
SAID = b'data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def chunk(data, *, extension=b"", end=b"\r\n"):
    return b"%x%b%b%b%b" % (len(data), extension, end, data, end)


def cut(data, places):
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    places=st.lists(st.integers(0, 5000), max_size=12),
    extension=st.sampled_from([b"", b";name=value", b' ; quoted="a;b"']),
    end=st.sampled_from([b"\r\n", b"\n"]),
)
def test_the_body_comes_whole_however_it_is_cut(pieces, places, extension, end):
    wire = b"".join(chunk(piece, extension=extension, end=end) for piece in pieces) + LAST
    chunks = Chunks()

    found = b"".join(map(chunks.feed, cut(wire, places)))

    assert (found, chunks.ended) == (b"".join(pieces), True)


def test_each_piece_is_given_as_soon_as_it_has_come():
    chunks = Chunks()

    given = [
        chunks.feed(data) for data in (chunk(b"one"), b"5\r\ntw", b"o", b"  \r\n3\r\nthr", b"\r\n", b"0\r\nField: x")
    ]

    assert given == [b"one", b"tw", b"o", b"  thr", b"", b""]
    assert chunks.ended


@pytest.mark.parametrize(
    "wire",
    [b"\r\n", b"x\r\n", b"-1\r\n", b"0x5\r\n", b"+5\r\n", b"3\r\nfour\r\n", b"ffffffffffffffff\r\n", b"5" * 9000],
)
def test_what_is_no_chunk_is_refused(wire):
    with pytest.raises(ChunkError):
        Chunks().feed(wire)


@pytest.fixture
def answered():
    """Have a provider answered with bytes as they are: what it says of them."""
    with contextlib.ExitStack() as stack:

        def answer(data, ask_by):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                connection, _ = listener.accept()
                with connection:
                    received = b""
                    while b'"messages"' not in received:
                        received += connection.recv(65_536)
                    connection.sendall(data)

            server = threading.Thread(target=serve)
            server.start()
            stack.callback(server.join, 30)
            provider = OpenAI(
                api_key="a-key", base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout_s=30
            )
            stack.callback(provider.close)
            return ask_by(provider)

        yield answer


def test_a_provider_is_read_by_chunks_wherever_they_end(answered):
    wire = HEAD + chunk(SAID[:10]) + chunk(SAID[10:]) + LAST

    assert Text("one") in answered(wire, ask)


def test_a_provider_that_sends_no_chunks_is_read_too(answered):
    wire = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + SAID

    assert Text("one") in answered(wire, ask)


@pytest.mark.parametrize("rest", [b"", b"5\r\nda", b"0"])
def test_an_answer_that_ends_within_a_chunk_is_worth_another_try(answered, rest):
    failure = answered(HEAD + chunk(b": nothing yet\n\n") + rest, failure_of)

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert "ended within the answer" in failure.message


def test_an_answer_that_is_no_chunk_is_told(answered):
    failure = answered(HEAD + b"what is this?\r\n", failure_of)

    assert failure.code == "PROVIDER_UNAVAILABLE"
    assert "a chunk does not say its size" in failure.message
