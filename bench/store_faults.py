"""A store that cannot write for a while: a full disk, or I/O errors; what has to happen before, meanwhile and after."""

import contextlib
import os
import resource
import subprocess
import time

from bench.fault_client import Conversation, Patience
from bench.scenario import checked, started, told, unstored
from tests.live.client import Client
from tests.live.server import until

_DISK_BYTES = 4_000_000
_CODE = "STORE_UNAVAILABLE"


class NotHere(Exception):
    """This machine does not allow the fault to be made."""


@contextlib.contextmanager
def small_disk(folder):
    """A file system of a few megabytes."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        yield folder
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(server):
    """Not a byte is free on the store's disk."""
    folder = server.database.parent
    if not os.path.ismount(folder):
        raise NotHere("no file system can be mounted here")
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def limited(server):
    """No file of the worker's may grow: SQLite takes EFBIG for an I/O error."""
    worker = server.worker()
    _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))


def run(server, broken):
    """Break the store under running turns, look, mend it, and let all go on."""
    client, found = Client(server), []
    talks = [Conversation(server, f"store{n}", seed=4, patience=Patience(120), cuts=False) for n in range(3)]
    idle = client.session()
    threads = started([talk.ask_on for talk in talks])
    until(lambda: all(talk.poster.last > 15 for talk in talks), 30, "the turns to run")
    with broken:
        until(lambda: _ready(client)[0] == 503, 10, "/health/ready to say so")
        until(lambda: all(map(_struck, talks)), 15, lambda: f"{_CODE}: {_lasts(talks)}")
        held = [talk.poster.last for talk in talks]
        answer = client.call("POST", f"/api/session/{idle}/message", {"content": "script big 1"})
        if answer.status != 503 or answer.error["code"] != "UNAVAILABLE":
            found.append(f"a new turn is answered by {answer.status} {answer.data[:300]!r}")
        paths = (f"/api/session/{idle}", "/api/sessions", f"/api/session/{talks[0].session}")
        found += [
            f"GET {path}: {answer.status}, though it only reads"
            for path in paths
            if (answer := client.call("GET", path)).status != 200
        ]
        status, checks = _ready(client)
        if status != 503 or checks["store"] == "ok":
            found.append(f"/health/ready: {status} {checks}")
        if client.call("GET", "/health").status != 200:
            found.append("/health fails")
        time.sleep(2.0)
        found += unstored(server.database, talks)
        if held != (now := [talk.poster.last for talk in talks]):
            found.append(f"events were shown while none could be stored: {held}, then {now}")
    began = time.monotonic()
    until(lambda: _ready(client)[0] == 200, 10, "/health/ready to be well again")
    until(
        lambda: all(talk.poster.last > before for talk, before in zip(talks, held, strict=True)), 20, "the turns' ends"
    )
    print(f"  back after {time.monotonic() - began:.1f} s")
    for talk in talks:
        talk.stop()
    told(threads, 60)
    for talk in talks:
        talk.ask()
    found += checked(talks)
    if not any(talk.poster.unstored for talk in talks):
        found.append("no turn was running when the store failed")
    for talk in talks:
        errors = [(e.name, e.data["code"]) for e in talk.record.replay if e.name == "error"]
        if errors != [("error", _CODE)] * bool(talk.poster.unstored):
            found.append(f"{talk.record.name}: the stored errors are {errors}")
    return found


def _struck(talk):
    """Whether its turn was ended, or has ended just before, so that the next one is refused."""
    return talk.poster.unstored or talk.poster.events[-1].name == "done"


def _ready(client):
    answer = client.call("GET", "/health/ready")
    return answer.status, answer.json["checks"]


def _lasts(talks):
    return [talk.poster.last for talk in talks], [talk.record.faults for talk in talks]
