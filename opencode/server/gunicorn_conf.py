"""How gunicorn runs the server: settings and hooks, for `gunicorn.conf.py` and `opencode serve` alike.

gevent patches when the worker starts, so nothing here may import what must be patched first; `preload_app` stays off.
"""

import errno
import gc
import resource
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from opencode.errors import SettingsError
from opencode.settings import environment, is_loopback, load
from opencode.undumpable import close_memory

worker_class = "opencode.server.worker.Worker"
workers = 1
#: The default of 1000 makes the next request hang without an error.
worker_connections = 12_000
timeout = 60
graceful_timeout = 15
keepalive = 2
backlog = 4096
preload_app = False
control_socket_disable = True
#: Forwarded headers are trusted by ProxyFix alone, as far as OPENCODE_TRUSTED_PROXIES says.
forwarded_allow_ips = ""
limit_request_line = 8190
limit_request_field_size = 8190
#: Of the time that gunicorn gives, what running turns get; the rest is for their streams to end in.
_TURN_GRACE_S = 10.0
_PIECE_PAUSE_S = 0.01
#: How often is looked for an end that is no SIGTERM.
_LOOK_S = 2.0
_NOFILE = 65_536
_PRIVILEGED, _LAST_PORT = 1024, 65_535


def addresses(environ: Mapping[str, str]) -> list[str]:
    """Where to listen: `OPENCODE_HOST` and `PORT`; where only a platform's `PORT` is set, on all addresses."""
    port = environ.get("PORT") or "3000"
    host = environ.get("OPENCODE_HOST") or ("0.0.0.0" if environ.get("PORT") else "localhost")  # noqa: S104 - with auth on
    return bind_addresses(host, port)


def bind_addresses(host: str, port: str) -> list[str]:
    """`localhost` is 127.0.0.1, and ::1 where this machine has it; an IPv6 address gets its brackets."""
    if host == "localhost":
        both = has_ipv6_loopback() and port != "0"
        return [f"127.0.0.1:{port}", f"[::1]:{port}"] if both else [f"127.0.0.1:{port}"]
    return [f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"]


def cannot_listen(address: str, port: int, exc: OSError, as_given: Callable[[str, object], str]) -> str:
    """Why it cannot listen at `address`, and the way out; `as_given(name, value)` is how host or port are given."""
    other = port + 1 if _PRIVILEGED <= port < _LAST_PORT else 3001
    if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL:
        fix = f"It must be an address of this machine, such as {as_given('host', 'localhost')}"
    elif exc.errno == errno.EACCES:
        fix = f"Ports below {_PRIVILEGED} are the administrator's. Choose another: {as_given('port', other)}"
    else:
        fix = f"Stop what uses the port, or choose another: {as_given('port', other)}"
    return f"Cannot listen at {address}: {exc.strerror or exc}. {fix}"


def has_ipv6_loopback() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def on_starting(server: Any) -> None:
    """In the master, before anything listens: check the settings, and settle who may come in."""
    close_memory()
    try:
        _settle(server)
    except SettingsError as exc:
        sys.stderr.write(f"Error: {exc}\n")
        sys.exit(2)


def _settle(server: Any) -> None:
    from opencode.server.access import check_access  # noqa: PLC0415 - not before the settings are read

    # Workers are forked from here, and read what is set here.
    environ = environment()
    hosts = [str(address[0]) for address in server.cfg.address if isinstance(address, tuple)]
    beyond = [host for host in hosts if not is_loopback(host)]
    if beyond:
        environ.setdefault("OPENCODE_HOST", beyond[0])
    settings, warnings = load(environ)
    for warning in warnings:
        server.log.warning(warning)
    _settle_workers(server, int(environ.get("WEB_CONCURRENCY") or "1"), several=settings.several_processes)
    check_access(settings)
    if settings.auth is False and beyond:
        raise SettingsError(
            f"Without a token nobody may listen at {beyond[0]}: anyone who reaches it could run commands here."
            " Leave out --no-auth (OPENCODE_AUTH=off), or listen at localhost."
        )
    if beyond and settings.auth is None:
        environ["OPENCODE_AUTH"] = "on"


def _settle_workers(server: Any, wanted: int, *, several: bool) -> None:
    """How many there are: what was asked for, where they can share a store."""
    asked = server.cfg.workers
    if several:
        if asked == 1 < wanted:
            server.cfg.set("workers", wanted)
            server.num_workers = wanted
        return
    if asked > 1:
        raise SettingsError(
            f"{asked} workers cannot share the embedded store. Start one: it holds thousands of streams. Several need"
            " DATABASE_URL=postgresql://… and REDIS_URL=redis://…"
        )
    if wanted > 1:
        server.log.warning(
            "WEB_CONCURRENCY is reduced to 1: several workers cannot share the embedded store. They need"
            " DATABASE_URL=postgresql://… and REDIS_URL=redis://…"
        )


def when_ready(_server: Any) -> None:
    """In the master, before the first fork: what it shares with its workers stays as it is, and is not looked through.

    gevent looks for locks that are held when it patches, in all that is not frozen: there are none at this moment.
    """
    gc.freeze()
    gc.enable()


def on_reload(_server: Any) -> None:
    """In the master, after SIGHUP, when `gunicorn.conf.py` has been read again."""
    gc.enable()


def post_fork(_server: Any, _worker: Any) -> None:
    """In the worker, before it imports the app: all that a start makes is to stay, there is no garbage to look for."""
    gc.disable()


def post_worker_init(worker: Any) -> None:
    """In the worker, when the app stands: room for sockets, the banner, and an ear for SIGTERM."""
    from opencode.server.answers import start_pump  # noqa: PLC0415 - only here is everything patched
    from opencode.server.banner import address, banner  # noqa: PLC0415 - as above
    from opencode.server.desktop import open_page  # noqa: PLC0415 - as above

    _raise_nofile()
    # What the start has made stays: looking through it for garbage would stop every stream for tens of milliseconds.
    gc.freeze()
    gc.enable()
    services = worker.wsgi.extensions["opencode"]
    start_pump(worker.wsgi, services)
    worker.stop_watch = threading.Thread(target=_watch, args=(worker, services), name="stop-watch", daemon=True)
    worker.stop_watch.start()
    threading.Thread(target=_warm, args=(worker, services), name="warm", daemon=True).start()
    if worker.age > 1:
        return  # the first of them has said it, or this one takes the place of one that died
    port = worker.sockets[0].getsockname()[1]
    code = worker.wsgi.extensions["opencode-authenticator"].link_code()
    sys.stdout.write(banner(services, port=port, token=worker.wsgi.config["NEW_TOKEN"], code=code))
    sys.stdout.flush()
    if services.settings.open_browser:
        open_page(address(services.settings, port), code, services.settings.data_dir)


def worker_exit(_server: Any, _worker: Any) -> None:
    """In the worker, when all is stopped and stored: the process ends without taking its memory apart, in no time."""
    gc.freeze()


def on_exit(_server: Any) -> None:
    """In the master: as in a worker."""
    gc.freeze()


def child_exit(_server: Any, worker: Any) -> None:
    """In the master, when a worker has ended: where `/metrics` is shared, its gauges end with it."""
    if environment().get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 - with several workers only

        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call] # prometheus_client has no types there


def _watch(worker: Any, services: Any) -> None:
    """SIGTERM has no hook of its own, and `worker_exit` comes too late for open streams."""
    while worker.alive:  # `max_requests` ends it, too
        worker.stopping.wait(_LOOK_S)
    services.stop(_TURN_GRACE_S)


def _warm(worker: Any, services: Any) -> None:
    """Do what the start has put off, so that the first turn need not wait for it; streams move between the pieces."""
    from opencode.server.routes import put_off  # noqa: PLC0415 - not before everything is patched

    pause = threading.Event()
    for piece in chain(services.put_off(), put_off(worker.wsgi)):
        pause.wait(_PIECE_PAUSE_S)
        if not worker.alive:
            return
        piece()


def _raise_nofile() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _NOFILE if hard == resource.RLIM_INFINITY else min(_NOFILE, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
