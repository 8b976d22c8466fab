"""Kills every part of a cluster in turn while turns run on it, and proves that nothing that a client saw is lost.

python -m bench.cluster --sessions 20 --turns 200

Real servers and workers on real PostgreSQL and Valkey, behind nginx where there is one: strict clients ask through one
server and look on through another, with the rules of `bench.fault_checks`. Exit code 1 where a rule was broken.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from bench.fault_checks import check, processes, split
from bench.fault_client import Conversation, Patience, connect, persistently
from bench.fault_server import provider
from tests.databases import Postgres, Valkey
from tests.live.client import Client
from tests.live.server import Server, free_port, until

TOKEN = "a-token-of-the-cluster-bench"
LEASE_S = 3
#: How long Redis stays away.
_REDIS_AWAY_S = 2.0
#: Longer than a dead worker's lease and the start of another: a turn that is there to be taken over.
_SLOW_S = 60


class Cluster:
    """Servers that run no turns, workers that do, and what they share."""

    def __init__(self, home, base_url, *, servers=2, workers=2, places=8, nginx=None):
        self.work, self.ledgers = home / "work", home / "ledgers"
        for folder in (self.work, self.ledgers):
            folder.mkdir(parents=True)
        self.home, self.token = home, TOKEN
        self.postgres, self.valkey = Postgres(), Valkey()
        given = {
            "DATABASE_URL": self.postgres.url(),
            "REDIS_URL": self.valkey.url,
            "OPENCODE_TURNS": "worker",
            "OPENCODE_LEASE_S": LEASE_S,
            "OPENCODE_AUTH_TOKENS": TOKEN,
            "OPENCODE_TRUSTED_PROXIES": 1 if nginx else None,
            "OPENCODE_RATE_LIMIT": "off",
            "OPENCODE_DIRECTORY": self.work,
            "OPENCODE_MODEL": "openai/wire-model",
            "OPENAI_API_KEY": "sk-faults",
            "OPENAI_BASE_URL": base_url,
        }
        self.servers = [Server.serve(home / f"server{n}", work=self.work, token=TOKEN, **given) for n in range(servers)]
        command = [sys.executable, "-m", "opencode", "worker", "--turns", str(places)]
        self.workers = [Server(home / f"worker{n}", command, port=0, **given) for n in range(workers)]
        self._nginx = None
        self.port = self._through(nginx) if nginx else None

    def start(self):
        for process in (*self.servers, *self.workers):
            process.start()
        for server in self.servers:
            server.ready()
        for worker in self.workers:
            worker.says("is ready", 60)
        return self

    def _through(self, nginx):
        """nginx in front of all servers, as `docs/deploy.md` says."""
        port, folder = free_port(), self.home / "nginx"
        folder.mkdir()
        upstream = " ".join(f"server 127.0.0.1:{server.port} max_fails=0;" for server in self.servers)
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\n"
            "events { worker_connections 1024; }\n"
            f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
            f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
            f"upstream opencode {{ {upstream} }}\n"
            f"server {{ listen 127.0.0.1:{port};\n"
            "location / { proxy_pass http://opencode; proxy_http_version 1.1; proxy_set_header Connection '';\n"
            "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;\n"
            "proxy_set_header X-Forwarded-Proto $scheme; proxy_buffering off; proxy_read_timeout 1h; } } }\n"
        )
        self._nginx = subprocess.Popen([nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")])
        return port

    def client(self, number):
        """To the server of this number, or to nginx."""
        port = self.port or self.servers[number % len(self.servers)].port
        return Client(argparse.Namespace(port=port, token=TOKEN))

    def one(self, column, turn_id):
        """What the store holds of a turn."""
        return self.postgres.execute(f"SELECT {column} FROM turns WHERE id = '{turn_id}'")[0][0][0]

    def taken_over(self):
        """How many turns went on after the process that worked on them had died."""
        return self.postgres.execute("SELECT count(*) FROM turns WHERE crashes > 0")[0][0][0]

    # Faults

    def kill_server(self):
        self.servers[0].kill()
        self.servers[0].start().ready()

    def kill_worker(self):
        """Kill one that works on a turn that cannot have ended: the seconds until another goes on with it."""
        client = self.client(0)
        session = client.session()
        asked = persistently(
            client,
            Patience(60),
            "POST",
            f"/api/session/{session}/message",
            body={"content": f"script slow {_SLOW_S}"},
            headers={"Prefer": "respond-async", "Idempotency-Key": session},
        )
        turn_id = asked.json["turn_id"]
        worker = until(lambda: self._works_on(turn_id), 60, "a worker to begin the turn")
        began = time.monotonic()
        worker.kill()
        until(lambda: self.one("crashes", turn_id), 60, "another worker to take the turn over")
        taken = time.monotonic() - began
        worker.start().says("is ready", 60)
        persistently(client, Patience(60), "POST", f"/api/session/{session}/abort", body={})
        until(lambda: self.one("ended_at", turn_id), 60, "the turn to end")
        return taken

    def _works_on(self, turn_id):
        attempt = self.one("attempt", turn_id)
        return next((w for w in self.workers if f"turn {turn_id} goes on, attempt {attempt}" in w.output()), None)

    def kill_redis(self):
        self.valkey.kill(signal.SIGKILL)
        time.sleep(_REDIS_AWAY_S)
        self.valkey.start()

    def restart_postgres(self):
        self.postgres.restart()

    def stop_worker(self):
        """A rolling restart: its turns go on elsewhere, and no attempt is counted as a crash."""
        self.workers[-1].terminate()
        self.workers[-1].wait(60)
        self.workers[-1].start()

    def sweep(self):
        for process in (*self.servers, *self.workers):
            process.kill()
        if self._nginx is not None:
            self._nginx.kill()
            self._nginx.wait()
        for pid in processes(str(self.ledgers)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.postgres.remove()
        self.valkey.remove()


class Apart(Conversation):
    """Who asks and who looks are at different servers."""

    def __init__(self, cluster, number, **options):
        super().__init__(_at(cluster, number), f"c{number}.", **options)
        self._looks = cluster.client(number + 1)

    def _follow(self, reader, until):
        client = self._looks if reader is self.watcher else self.client
        headers = {"Last-Event-ID": str(reader.last)}
        stream, refusal = connect(client, self.patience, "GET", f"{self.path}/message", headers=headers)
        if refusal:
            self.record.faults.append(f"following after {reader.last} was refused: {refusal}")
            return
        reader.read(stream, until)


def cluster_run(home, *, sessions, turns, rounds, places=None, seed=1, seconds=600.0, nginx=None, say=print):
    """Faults in turn while `sessions` talks go on, `turns` in all at the least: counts and what was wrong."""
    faults, numbers, threads = [], Counter(), []
    finished = threading.Event()

    def thread(work, *args):
        def guarded():
            try:
                work(*args)
            except Exception:
                faults.append(f"a client failed\n{traceback.format_exc()}")

        threads.append(threading.Thread(target=guarded, daemon=True))
        threads[-1].start()
        return threads[-1]

    patience = Patience(seconds)
    with provider(home / "provider", seconds=seconds) as (base_url, complaints):
        # By itself a worker has places for all turns: what is measured is the wait for a dead one, not for a place.
        cluster = Cluster(home / "cluster", base_url, places=places or sessions + 4, nginx=nginx)
        try:
            cluster.start()
            talks = [Apart(cluster, n, seed=seed, patience=patience) for n in range(sessions)]
            posters = [thread(talk.ask_on) for talk in talks]
            watchers = [thread(talk.watch_until, finished.is_set) for talk in talks]
            for _ in range(rounds):
                for name in ("kill_server", "kill_worker", "kill_redis", "restart_postgres", "stop_worker"):
                    patience.pause(1.0)
                    began = time.monotonic()
                    taken = getattr(cluster, name)()
                    numbers[name] += 1
                    say(
                        f"{name}: {time.monotonic() - began:.1f} s"
                        + (f", taken over in {taken:.1f} s" if taken else "")
                    )
            until(
                lambda: sum(talk.turns for talk in talks) >= turns or faults or any(t.record.faults for t in talks),
                seconds,
                f"{turns} turns",
            )
            for talk in talks:
                talk.stop()
            _join(posters, patience)
            finished.set()
            # Where something was wrong nothing more is asked, and nothing more is seen.
            whole = [n for n, talk in enumerate(talks) if not talk.record.faults]
            _join([*(thread(talks[n].ask) for n in whole), *(watchers[n] for n in whole)], patience)
            for talk in talks:
                talk.watcher.events[:] = talk.watcher.events + talk.poster.events[talk.watcher.last :]
                talk.look()
                talk.replay()
                faults += check(talk.record)
                numbers["reconnects"] += talk.poster.reconnects + talk.watcher.reconnects
                numbers["events"] += len(talk.record.replay)
                for turn in split(talk.record.replay):
                    numbers["turns"] += 1
                    numbers[f"turns {turn[-1].data.get('status')}"] += 1
            numbers["turns taken over"] = cluster.taken_over()
            for process in (*cluster.servers, *cluster.workers):
                if "Traceback (most recent" in process.output():
                    faults.append(f"{process.home} has a traceback:\n{process.output()[-3000:]}")
        finally:
            finished.set()
            cluster.sweep()
        faults += [f"the provider: {line}" for line in complaints.read_text().splitlines()]
    return numbers, faults


def _at(cluster, number):
    """What a conversation needs of a server, with the port of one of them."""
    port = cluster.client(number).port
    return argparse.Namespace(port=port, token=TOKEN, ledgers=cluster.ledgers, work=cluster.work)


def _join(threads, patience):
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
            patience.pause(0.0)


def main():
    """Run it, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--places", type=int, help="turns that a worker runs at once (default: more than there are)")
    parser.add_argument("--no-nginx", action="store_true")
    options = parser.parse_args()
    nginx = None if options.no_nginx else shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    with tempfile.TemporaryDirectory(prefix="cluster-") as home:
        numbers, faults = cluster_run(
            Path(home),
            sessions=options.sessions,
            turns=options.turns,
            rounds=options.rounds,
            places=options.places,
            nginx=nginx,
        )
    print(", ".join(f"{value} {name}" for name, value in numbers.items()), "behind nginx" if nginx else "without nginx")
    for line in faults:
        print(f"FAULT {line[:3000]}")
    print(f"{len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
