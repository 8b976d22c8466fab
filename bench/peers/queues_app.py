"""Flask under gunicorn's gevent worker, a queue for each subscriber: the usual way with greenlets."""

import queue
import threading
import time

from flask import Flask, Response, request

from bench.peers import frame

app = Flask(__name__)
subscribers = set()


@app.get("/health")
def health():
    return "ok"


@app.get("/stream")
def stream():
    own = queue.SimpleQueue()

    def events():
        subscribers.add(own)
        try:
            yield b": open\n\n"
            while True:
                try:
                    yield own.get(timeout=15)
                except queue.Empty:
                    yield b": beat\n\n"
        finally:
            subscribers.discard(own)

    return Response(events(), content_type="text/event-stream")


def send(count, burst, every_ms):
    for number in range(count):
        for one in range(burst):
            data = frame(number * burst + one)
            for own in subscribers:
                own.put(data)
        time.sleep(every_ms / 1000)


@app.post("/publish")
def publish():
    asked = [int(request.args[name]) for name in ("count", "burst", "every_ms")]
    threading.Thread(target=send, args=asked, daemon=True).start()
    return "ok"
