"""An app on a real port: WebSockets need a socket to take over."""

import threading
from contextlib import ExitStack, contextmanager

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_args):
        pass


@contextmanager
def served(app):
    """The app's port, while Werkzeug's threaded server serves it; its threads have ended when this has."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    server.daemon_threads = False  # so that closing waits for them, and no socket outlives the test
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        app.extensions["opencode"].log.close_followers()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve(make_app):
    """Serves apps: `serve(app)` gives a port."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(served(app))


@pytest.fixture
def port(app, serve):
    """Of an app with the usual script."""
    return serve(app)
