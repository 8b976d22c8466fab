"""`/ws` byte by byte: fragments, control frames, and frames that are wrong (RFC 6455)."""

import json
import socket

import pytest

from tests.live.server import until
from tests.server.talk import create
from tests.ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Peer, Raw, frame

PING_COMMAND = b'{"type": "ping", "id": "h\xc3\xa9"}'
PONG_ANSWER = {"type": "pong", "id": "hé"}


@pytest.fixture
def raw(port):
    with Raw(port) as raw:
        yield raw


def test_a_message_may_come_in_fragments_cut_anywhere_with_control_frames_between(raw):
    raw.send(frame(TEXT, PING_COMMAND[:24], fin=False))  # within the é
    raw.send(frame(PING, b"between"))
    raw.send(frame(CONTINUATION, b"", fin=False))
    raw.send(frame(CONTINUATION, PING_COMMAND[24:-1], fin=False))
    assert raw.frame() == (PONG, b"between")
    raw.send(frame(PONG, b"unasked"))
    raw.send(frame(CONTINUATION, PING_COMMAND[-1:]))

    assert raw.message() == PONG_ANSWER


def test_a_frame_may_come_byte_by_byte(raw):
    raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in frame(TEXT, PING_COMMAND):
        raw.send(bytes([byte]))

    assert raw.message() == PONG_ANSWER


def test_many_frames_may_come_at_once_and_are_answered_in_order(raw):
    raw.send(b"".join(frame(TEXT, b'{"type": "ping", "id": %d}' % n) for n in range(100)))

    assert [raw.message()["id"] for _ in range(100)] == list(range(100))


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
def test_a_ping_is_answered_with_what_it_held(raw, payload):
    raw.send(frame(PING, payload))

    assert raw.frame() == (PONG, payload)


def test_a_close_is_answered_with_its_code_and_the_connection_ends(raw):
    raw.send(frame(CLOSE, (4321).to_bytes(2, "big") + b"bye"))

    assert raw.close_code() == 4321


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(TEXT, PING_COMMAND, masked=False), 1002, id="unmasked"),
        pytest.param(frame(TEXT, PING_COMMAND, bits=0x40), 1002, id="a reserved bit"),
        pytest.param(frame(3, b"x"), 1002, id="an unknown opcode"),
        pytest.param(frame(11, b"x"), 1002, id="an unknown control opcode"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="a long ping"),
        pytest.param(frame(PING, b"x", fin=False), 1002, id="a fragmented ping"),
        pytest.param(frame(CONTINUATION, b"x"), 1002, id="a fragment of nothing"),
        pytest.param(frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002, id="a message within another"),
        pytest.param(bytes([0x81, 0xFF]) + b"\xff" * 8 + b"key!", 1002, id="a negative length"),
        pytest.param(bytes([0x81, 0xFE, 0, 5]) + b"key!hello", 1002, id="a length longer than need be"),
        pytest.param(frame(CLOSE, b"x"), 1002, id="half a close code"),
        pytest.param(frame(CLOSE, (1005).to_bytes(2, "big")), 1002, id="a code that is never sent"),
        pytest.param(frame(CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007, id="a reason that is no UTF-8"),
        pytest.param(frame(TEXT, b"\xff"), 1007, id="no UTF-8"),
        pytest.param(frame(TEXT, b"\xce\xba\xe1", fin=False) + frame(CONTINUATION, b"\xff"), 1007, id="no UTF-8, later"),
        pytest.param(frame(TEXT, b"\xce"), 1007, id="half a character"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), 1007, id="a surrogate"),
        pytest.param(frame(BINARY, PING_COMMAND), 1003, id="binary"),
        pytest.param(frame(CLOSE), 1005, id="a close without a code"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 1002, id="another request"),
    ],
)  # fmt: skip
def test_what_is_no_frame_of_ours_ends_the_connection_with_its_code(raw, data, code):
    raw.send(data + frame(TEXT, PING_COMMAND))

    assert raw.close_code() == code


def test_a_message_over_the_limit_ends_the_connection_whether_in_one_frame_or_in_many(make_app, serve):
    app = make_app(max_body_bytes=2000)
    port = serve(app)
    fits = json.dumps({"type": "ping", "id": "é" * 150}, ensure_ascii=False).encode()
    fits += b" " * (2000 - len(fits))
    for data in (
        frame(TEXT, fits + b" "),
        frame(TEXT, fits[:1000], fin=False) + frame(CONTINUATION, fits[1000:] + b" "),
        frame(TEXT, "é".encode() * 1001),  # bytes count, not characters
        frame(TEXT, b"x" * 30_000, length=1 << 40),
    ):
        with Raw(port) as raw:
            raw.send(frame(TEXT, fits))
            assert raw.message()["type"] == "pong"
            raw.send(data)
            assert raw.close_code() == 1009
            assert "OPENCODE_MAX_BODY_BYTES" in raw.reason


def test_a_client_that_goes_on_sending_still_hears_why_it_was_closed(make_app, serve):
    """What it sent and nobody read must not make a reset of the goodbye."""
    with Raw(serve(make_app(max_body_bytes=2000))) as raw:
        raw.send(frame(TEXT, b"x" * 300_000))
        assert raw.close_code() == 1009


@pytest.mark.parametrize(
    "flood",
    [frame(PING, b"x"), frame(PONG), frame(TEXT, b'{"type":"ping"}'), frame(TEXT, b'{"type":"unfollow","session_id":"s"}')],
    ids=["ping", "pong", "command ping", "unfollow"],
)  # fmt: skip
def test_a_flood_of_what_costs_nothing_is_ended(port, flood):
    with Raw(port) as raw:
        raw.send(flood * 1000)
        raw.send(frame(TEXT, PING_COMMAND))
        code, answers = None, 0
        while (found := raw.frame()) is not None:
            if found[0] == CLOSE:
                code = int.from_bytes(found[1][:2], "big")
            else:
                assert code is None
                answers += 1
        assert code == 1008
        assert answers <= 1000


def test_a_flood_of_one_does_not_stop_the_others(port):
    with Raw(port) as raw, Peer(port) as peer:
        for _ in range(9):
            raw.send(frame(PING, b"x") * 100)
            assert peer.ping_through() == []


def test_a_client_that_vanishes_leaves_nothing_behind(app, port):
    client = app.test_client()
    session_id = create(client)
    talks = app.extensions["opencode-ws"]
    raw = Raw(port)
    raw.say("follow", session_id=session_id, after=0)
    raw.say("ping")
    assert raw.message() == {"type": "pong"}
    assert len(talks) == 1
    raw.close()

    with Raw(port) as other:
        other.say("ping")
        assert other.message() == {"type": "pong"}
        until(lambda: len(talks) == 1, 60, "the conversation to end")


def test_what_is_sent_before_the_upgrade_is_answered_is_no_second_request(port):
    """Neither now nor when the connection has ended."""
    with Raw(port, headers={"X-Last": "1\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost"}) as raw:
        raw.send(frame(CLOSE, (1000).to_bytes(2, "big")))
        assert raw.close_code() in {1000, 1002}
        assert b"HTTP/1.1" not in raw._data
