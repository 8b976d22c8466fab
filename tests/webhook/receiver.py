"""A receiver of webhooks over real HTTP, which can fail, hang up, redirect and be down."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Listens on 127.0.0.1 from `start` on. `answers` are statuses to give first; then it is 204."""

    def __init__(self, *answers, tls=None):
        self.answers = list(answers)
        self._tls = tls
        self.requests = []
        self.port = 0
        self._server = None

    def start(self):
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                own.requests.append((self.path, dict(self.headers), body))
                status = own.answers.pop(0) if own.answers else 204
                self.send_response(status)
                if status in {301, 302, 307, 308}:
                    self.send_header("Location", f"http://127.0.0.1:{own.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                own.requests.append((self.path, dict(self.headers), b""))
                self.send_error(404)

            def handle(self):
                with contextlib.suppress(OSError):  # a client that did not trust the certificate has left
                    super().handle()

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def stop(self):
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    @property
    def url(self):
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}/hook?key=s3cret"

    @property
    def bodies(self):
        return [json.loads(body) for _, _, body in self.requests]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_exc):
        self.stop()
