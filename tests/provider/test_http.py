"""The connection under the providers: what ends it, over TLS too, and what it leaves behind."""

import contextlib
import email.utils
import socket
import ssl
import threading
import time

import pytest

from opencode.cancel import Cancel
from opencode.errors import Cancelled
from opencode.provider.http import retry_after_s
from opencode.provider.openai import OpenAI
from opencode.provider.port import Text
from tests.provider.asking import ask, asked, failure_of, turned_once
from tests.wire.certificate import make_certificate
from tests.wire.openai_server import OpenAIWire

SILENT = [{"text": "one"}, {"silence": True}]


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path)


@pytest.fixture(params=["plain", "tls"])
def talk(request, monkeypatch):
    """Start a wire with replies and give the provider and the wire, over TLS too."""
    context = None
    if request.param == "tls":
        made, key = request.getfixturevalue("certificate")
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made, key)
    with contextlib.ExitStack() as stack:

        def start(*replies, timeout_s=10):
            wire = stack.enter_context(OpenAIWire(list(replies), tls=context))
            provider = OpenAI(api_key="k", base_url=wire.base_url, timeout_s=timeout_s)
            stack.callback(provider.close)
            return provider, wire

        yield start


def read_through(deltas, on_text):
    for delta in deltas:
        if on_text and isinstance(delta, Text):
            on_text()


def cancelled_after(provider, ready, on_text=None):
    """Ask, turn the switch when `ready` is set, and give the seconds until the stream had ended."""
    cancel = Cancel()
    with turned_once(ready, cancel) as moment:
        with pytest.raises(Cancelled):
            read_through(provider.stream(asked(), cancel), on_text)
        return time.monotonic() - moment[0]


def test_the_answer_comes_through(talk):
    provider, _ = talk([{"text": "one"}])

    assert Text("one") in ask(provider)


def test_a_turned_switch_closes_a_silent_connection_at_once(talk):
    provider, wire = talk(SILENT)
    writing = threading.Event()

    assert cancelled_after(provider, writing, writing.set) < 0.3
    assert wire.hung_up.wait(5)


def test_a_turned_switch_ends_the_wait_for_the_first_byte(talk):
    provider, wire = talk([{"hold": True}])
    arrived = threading.Event()
    threading.Thread(target=lambda: wire.arrived.acquire(timeout=10) and arrived.set()).start()

    assert cancelled_after(provider, arrived) < 0.3
    assert wire.hung_up.wait(5)


def test_leaving_the_stream_closes_the_connection(talk):
    provider, wire = talk(SILENT)
    stream = provider.stream(asked(), Cancel())

    next(stream)
    stream.close()

    assert wire.hung_up.wait(5)


def test_a_first_byte_that_does_not_come_is_a_time_out(talk):
    provider, wire = talk([{"hold": True}], timeout_s=0.1)

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert wire.hung_up.wait(5)


def test_silence_within_an_answer_is_a_time_out(talk):
    provider, wire = talk(SILENT, timeout_s=0.1)

    failure = failure_of(provider)

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert "in time" in failure.message
    assert wire.hung_up.wait(5)


def test_the_time_that_a_reader_takes_is_not_the_providers(talk):
    taken = threading.Event()
    provider, _ = talk([{"text": "one"}, {"wait": taken}, {"text": "two"}], timeout_s=1)
    deltas = provider.stream(asked(), Cancel())
    said = [next(deltas)]

    threading.Event().wait(1.8)  # as a turn does while the store is busy
    taken.set()

    assert [*said, *deltas][:2] == [Text("one"), Text("two")]


def test_a_turned_switch_ends_a_connect_that_hangs():
    # A listener that accepts nothing and whose queue is full leaves further connects waiting.
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        provider = OpenAI(api_key="k", base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout_s=10)
        stack.callback(provider.close)
        provider.warm()
        connecting = threading.Event()
        connecting.set()

        assert cancelled_after(provider, connecting) < 0.5


def test_a_server_that_slams_the_door_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def slam():
            connection, _ = listener.accept()
            with connection:
                connection.recv(64)

        thread = threading.Thread(target=slam)
        thread.start()
        provider = OpenAI(api_key="k", base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout_s=10)
        failure = failure_of(provider)
        provider.close()
        thread.join()

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_the_time_to_wait_is_read_in_every_form(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_a_date_to_wait_for_becomes_seconds():
    date = email.utils.formatdate(time.time() + 100, usegmt=True)

    assert 95 < retry_after_s({"retry-after": date}) <= 100
