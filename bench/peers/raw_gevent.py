"""No server at all: gevent's sockets, a written chunk for each event and client. What remains is the kernel's work."""

import os
import re
import socket
import sys

import gevent
from gevent.server import StreamServer

from bench.peers import chunk, frame

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
subscribers = set()


def send(count, burst, every_ms):
    for number in range(count):
        data = b"".join(frame(number * burst + one) for one in range(burst))
        data = chunk(data)
        for fd in subscribers:
            if os.write(fd, data) != len(data):
                raise BlockingIOError("a reader is too slow for this measurement")
        gevent.sleep(every_ms / 1000)


def handle(connection, _address):
    # As the others have it: else small writes wait for the reader's acknowledgement, and arrive together.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65_536)
    if not head.startswith(b"GET /stream"):
        asked = re.search(rb"count=(\d+)&burst=(\d+)&every_ms=(\d+)", head)
        if asked:
            gevent.spawn(send, *map(int, asked.groups()))
        connection.sendall(OK)
        return
    connection.sendall(HEAD)
    subscribers.add(connection.fileno())
    try:
        connection.recv(1)
    finally:
        subscribers.discard(connection.fileno())


if __name__ == "__main__":
    StreamServer(("127.0.0.1", int(sys.argv[1])), handle, backlog=4096).serve_forever()
