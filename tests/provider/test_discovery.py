import contextlib
import socket
import threading
import time

import pytest

from opencode.provider.discovery import KNOWN_PORTS, LocalServer, find_local_servers
from tests.wire.openai_server import OpenAIWire

LONG_S = 5.0


def answering(stack, data, *, linger=None):
    """Listen, answer the first request with these bytes, close unless told to linger; gives the port."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(data)
                if linger:
                    linger.wait(LONG_S)

    thread = threading.Thread(target=serve)
    thread.start()
    stack.callback(thread.join)
    return listener.getsockname()[1]


def response(body, status="200 OK", headers=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n{body}".encode()


def test_servers_are_found_with_their_models_and_in_order():
    with OpenAIWire([], models=["llama3", "qwen"]) as first, OpenAIWire([], models=["phi"]) as second:
        ports = {"llama-server": second._server.server_port, "ollama": first._server.server_port}
        found = find_local_servers(ports, timeout_s=LONG_S)

    assert found == [
        LocalServer("llama-server", second.base_url, ("phi",)),
        LocalServer("ollama", first.base_url, ("llama3", "qwen")),
    ]
    assert found[1].label == "Ollama"
    assert f"http://{found[1].address}/v1" == first.base_url


def test_models_that_cannot_chat_are_left_out():
    models = ["nomic-embed-text:latest", "text-embedding-3", "bge-m3", "qwen3", "all-minilm", "reranker-v2"]
    with OpenAIWire([], models=models) as wire:
        found = find_local_servers({"ollama": wire._server.server_port}, timeout_s=LONG_S)

    assert found[0].models == ("qwen3",)


def test_a_server_with_nothing_to_chat_with_is_none():
    with OpenAIWire([], models=["nomic-embed-text"]) as wire:
        assert find_local_servers({"ollama": wire._server.server_port}, timeout_s=LONG_S) == []


@pytest.mark.parametrize(
    "data",
    [
        response("<html>a web site</html>"),
        response('{"object": "list", "data": []}'),
        response('{"object": "list", "data": {"id": "x"}}'),
        response('{"data": [{"id": "x"}]}'),
        response('["x"]'),
        response('{"object": "list", "data": [{"id": "x"}]}', status="401 Unauthorized"),
        response("", status="302 Found", headers="Location: http://127.0.0.1:11434/v1/models\r\n"),
        response('{"object": "list", "data": [{"id": "' + "x" * 2_000_000 + '"}]}'),
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
    ids=["page", "empty", "no-list", "no-object", "array", "refusal", "redirect", "huge", "ssh", "nothing"],
)
def test_whatever_else_listens_there_is_ignored(data):
    with contextlib.ExitStack() as stack:
        port = answering(stack, data)

        assert find_local_servers({"ollama": port}, timeout_s=LONG_S) == []


def test_one_that_does_not_answer_holds_nobody_up():
    done = threading.Event()
    with contextlib.ExitStack() as stack, OpenAIWire([], models=["phi"]) as wire:
        stack.callback(done.set)
        silent = answering(stack, b"", linger=done)
        stack.callback(done.set)
        started = time.monotonic()
        found = find_local_servers({"ollama": silent, "lmstudio": wire._server.server_port}, timeout_s=0.5)
        took_s = time.monotonic() - started

    assert [server.name for server in found] == ["lmstudio"]
    assert took_s < 1


def test_nothing_listening_is_no_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert find_local_servers({"ollama": port}, timeout_s=LONG_S) == []


def test_the_usual_servers_are_known():
    assert dict(KNOWN_PORTS) == {"ollama": 11434, "lmstudio": 1234, "llama-server": 8080}
