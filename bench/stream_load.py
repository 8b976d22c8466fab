"""A load of many streams: `stream_load.c` where a compiler is there, else the same in Python.

python -m bench.stream_load PORT PATH CONNECTIONS
"""

import contextlib
import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from bench.measured import cores, pinned

SOURCE = Path(__file__).with_suffix(".c")
AT_ONCE = 256
STALL_S = 60
PIECE = 1 << 16


def compiled(folder):
    """The load as a program, and what it is written in."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    program = Path(folder) / "stream_load"
    if compiler is None:
        return [sys.executable, "-m", "bench.stream_load"], "Python"
    if not program.exists():
        subprocess.run([compiler, "-O3", "-march=native", "-o", program, SOURCE], check=True)
    return [str(program)], "C"


class Streams:
    """So many open streams, in a process on the load's core."""

    def __init__(self, command, port, path, connections):
        with pinned(cores()[1]):
            self._process = subprocess.Popen(
                [*command, str(port), path, str(connections)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.connections = connections

    def opened(self):
        """Wait until all of them are open."""
        said = self._process.stdout.readline()
        assert said == f"open {self.connections}\n", said
        return self

    def expect(self, marks):
        """Say how many marks each of them is to get; `marks` waits for them."""
        self._process.stdin.write(f"{marks}\n")
        self._process.stdin.flush()

    def marks(self):
        """How many came in all, and the seconds from the first to the last."""
        word, total, seconds = self._process.stdout.readline().split()
        assert word == "marks", word
        return int(total), float(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Load:
    """What the program in C does, without a compiler."""

    def __init__(self, port, path, connections):
        self.poll = select.epoll()
        self.piece = bytearray(PIECE)
        self.in_head, self.sockets = set(), {}
        self.marks, self.first_at, self.last_at = 0, 0.0, 0.0
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n".encode()
        for _ in range(connections):
            opened = socket.create_connection(("127.0.0.1", port))
            opened.sendall(request)
            opened.setblocking(False)
            self.in_head.add(opened.fileno())
            self.sockets[opened.fileno()] = opened
            self.poll.register(opened, select.EPOLLIN)
            while len(self.in_head) > AT_ONCE:
                self.serve()
        while self.in_head:
            self.serve()

    def serve(self):
        ready = self.poll.poll(STALL_S)
        if not ready:
            raise TimeoutError("nothing comes")
        for fd, _ in ready:
            size = self.sockets[fd].recv_into(self.piece)
            if not size:
                raise ConnectionError("a stream ended")
            if fd in self.in_head:
                if not self.piece.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(bytes(self.piece[:size]))
                self.in_head.discard(fd)
            found = self.piece.count(b"~", 0, size)
            if found:
                self.last_at = time.monotonic()
                self.first_at = self.first_at if self.marks else self.last_at
                self.marks += found


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    port, path, connections = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    load = Load(port, path, connections)
    print(f"open {connections}", flush=True)
    for line in sys.stdin:
        while load.marks < int(line) * connections:
            load.serve()
        print(f"marks {load.marks} {load.last_at - load.first_at:.6f}", flush=True)
        load.marks = 0
    os._exit(0)


if __name__ == "__main__":
    main()
