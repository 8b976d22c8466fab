"""A model provider that costs next to nothing: OpenAI's chat completions on loopback, by one thread and one selector.

    python -m bench.token_provider --seconds 120

Prints its base URL. The last `bench COUNT EVERY_MS` in a request says what to stream; each piece of text holds the
moment at which it was sent (`t=<monotonic seconds>`), so that whoever reads it anywhere on this machine knows its age.
A pause of 0 is a flood. Whatever else is asked, such as for a title, gets one word.
"""

import argparse
import contextlib
import heapq
import re
import selectors
import socket
import time

_ASKED = re.compile(rb"bench (\d+) (\d+)")
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
_PIECE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench","system_fingerprint":"fp",'
    b'"choices":[{"index":0,"delta":{%b},"logprobs":null,"finish_reason":%b}],"usage":null}\n\n'
)
_USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench","choices":[],'
    b'"usage":{"prompt_tokens":25,"completion_tokens":15,"total_tokens":40}}\n\ndata: [DONE]\n\n'
)
_FLOOD_AT_ONCE = 20


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_BEGIN = _HEAD + _chunk(_PIECE % (b'"role":"assistant","content":""', b"null"))
_END = _chunk(_PIECE % (b"", b'"stop"') + _USAGE) + b"0\r\n\r\n"


class Answer:
    """One connection: what has come of its request, then what is left to send."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.left = 0
        self.every_s = 0.0
        self.due = 0.0

    def asked(self) -> bool:
        """Whether the request is whole; then it is known what to send."""
        head, blank, body = self.received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or (length is not None and len(body) < int(length[1])):
            return False
        asked = _ASKED.findall(body)
        titled = b'"tools"' not in body
        count, every_ms = asked[-1] if asked and not titled else (b"1", b"0")
        self.left, self.every_s = int(count), int(every_ms) / 1000
        self.due = time.monotonic()
        self.connection.setblocking(True)
        self.connection.sendall(_BEGIN)
        return True

    def send(self) -> bool:
        """Send what is due; whether more is to come. A flood goes in parts, so that several run side by side."""
        for _ in range(1 if self.every_s else min(self.left, _FLOOD_AT_ONCE)):
            text = b'"content":"t=%.6f "' % time.monotonic()
            self.connection.sendall(_chunk(_PIECE % (text, b"null")))
            self.left -= 1
        self.due += self.every_s
        if not self.left:
            self.connection.sendall(_END)
        return self.left > 0


class Provider:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._due: list[tuple[float, int, Answer]] = []
        self.port = self._listener.getsockname()[1]

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            pause = min(self._due[0][0] - now, 1.0) if self._due else 1.0
            for key, _ in self._selector.select(max(0.0, pause)):
                self._accept() if key.data is None else self._read(key.data)
            while self._due and self._due[0][0] <= time.monotonic():
                self._send(heapq.heappop(self._due)[2])

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, Answer(connection))

    def _read(self, answer: Answer) -> None:
        with contextlib.suppress(OSError):
            data = answer.connection.recv(262_144)
            answer.received += data
            if data and not answer.asked():
                return
        self._selector.unregister(answer.connection)
        if answer.left:
            self._wait(answer)
        else:
            answer.connection.close()

    def _wait(self, answer: Answer) -> None:
        heapq.heappush(self._due, (answer.due, id(answer), answer))

    def _send(self, answer: Answer) -> None:
        try:
            more = answer.send()
        except OSError:
            more = False
        if more:
            self._wait(answer)
        else:
            answer.connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    seconds = parser.parse_args().seconds
    provider = Provider()
    print(f"http://127.0.0.1:{provider.port}/v1", flush=True)
    provider.run(seconds)


if __name__ == "__main__":
    main()
