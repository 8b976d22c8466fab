"""TLS to PostgreSQL and to Redis: it is really spoken, and a server that is not trusted is named with the way out."""

import logging
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from opencode.bus.redis import RedisBus
from opencode.bus.tasks import Tasks, TaskWorker
from opencode.errors import SettingsError, StoreError
from opencode.redis_client import connect
from opencode.storage.sql import open_store
from tests.live.client import Client, text_of
from tests.live.server import Server, run, until
from tests.sse import check_turn
from tests.tls_relay import TlsRelay

pytestmark = pytest.mark.live

DEADLINE_S = 40.0
SECRET = "hunter2-never-told"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A server's certificate for 127.0.0.1 alone, who signed it, and somebody who did not."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(folder / "right.pem")
    trustme.CA().cert_pem.write_to_path(folder / "wrong.pem")
    return SimpleNamespace(context=context, right=folder / "right.pem", wrong=folder / "wrong.pem")


@pytest.fixture
def database(certificates, postgres, postgres_url):
    """PostgreSQL behind TLS: the build that tests have speaks none."""
    with TlsRelay(postgres.port, certificates.context, postgresql=True) as relay:

        def url(authority=certificates.right, *, host="127.0.0.1", mode="verify-full"):
            name = postgres_url.rpartition("/")[2]
            address = f"postgresql://opencode:{SECRET}@{host}:{relay.port}/{name}?sslmode={mode}"
            return address + (f"&sslrootcert={authority}" if authority else "")

        yield SimpleNamespace(url=url, relay=relay)


@pytest.fixture
def redis(certificates, valkey):
    """Valkey behind TLS, for the same reason."""
    with TlsRelay(valkey.port, certificates.context) as relay:

        def url(authority=certificates.right, *, host="127.0.0.1", user="", options=""):
            return f"rediss://{user}{host}:{relay.port}/0?ssl_ca_certs={authority}{options}"

        yield SimpleNamespace(url=url, relay=relay)


# PostgreSQL


def test_the_store_is_reached_through_tls(database):
    store = open_store(database.url(), Path("/unused"))
    try:
        store.check()
        assert store.secret("key", b"kept") == b"kept"
    finally:
        store.close()

    assert database.relay.handshakes > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"authority": "wrong"}, r"certificate verify failed; .*\?sslrootcert=/path/ca.pem"),
        ({"host": "localhost"}, 'certificate for "127.0.0.1" does not match host name "localhost"'),
        ({"authority": "/nowhere/ca.pem"}, '"/nowhere/ca.pem" does not exist .*sslrootcert=system'),
        ({"mode": "verify-all"}, 'invalid sslmode value: "verify-all"'),
    ],
)
def test_a_database_that_is_not_trusted_is_refused_at_once_in_one_line(database, certificates, options, words):
    given = {name: getattr(certificates, value, value) for name, value in options.items()}

    with pytest.raises(StoreError, match=words) as refusal:
        open_store(database.url(**given), Path("/unused"))

    assert type(refusal.value) is StoreError  # and no `StoreBusy`, which is waited for
    assert SECRET not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_database_without_tls_is_refused_where_tls_is_asked_for(postgres, postgres_url):
    with pytest.raises(StoreError, match="does not support SSL") as refusal:
        open_store(f"{postgres_url}?sslmode=require", Path("/unused"))

    assert type(refusal.value) is StoreError


# Redis


def test_a_ring_and_a_hint_arrive_through_tls(redis):
    here, there = RedisBus(redis.url()), RedisBus(redis.url())
    tasks, heard = Tasks(redis.url()), []
    worker = TaskWorker(redis.url(), lambda *hint: heard.append(hint), threads=1)
    try:
        ear = there.subscribe("ses_1")
        assert ear.wait(DEADLINE_S)
        for _ in range(100):  # read and written at the same time
            here.ring("ses_1")
            there.subscribe("ses_2").close()
            assert ear.wait(DEADLINE_S)
        tasks.put("ses_1", "trn_1")
        until(lambda: heard == [("ses_1", "trn_1")], DEADLINE_S, "the hint")
        here.check()
    finally:
        for part in (worker, tasks, here, there):
            part.close()

    assert redis.relay.handshakes >= 4


@pytest.mark.parametrize(
    ("authority", "host", "words"),
    [
        ("wrong", "127.0.0.1", r"REDIS_URL: its certificate is not trusted .*\?ssl_ca_certs=/path/ca.pem"),
        ("right", "localhost", "REDIS_URL: Hostname mismatch, certificate is not valid for 'localhost'"),
    ],
)
def test_a_redis_that_is_not_trusted_stops_the_start_in_one_line(redis, certificates, authority, host, words):
    with pytest.raises(SettingsError, match=words) as refusal:
        RedisBus(redis.url(getattr(certificates, authority), host=host, user=f":{SECRET}@"))

    assert SECRET not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert redis.relay.handshakes == 0


def test_the_check_of_a_certificate_can_be_turned_off_by_name_only(redis, certificates):
    bus = RedisBus(redis.url(certificates.wrong, options="&ssl_cert_reqs=none&ssl_check_hostname=false"))
    try:
        bus.check()
    finally:
        bus.close()


def test_a_redis_whose_certificate_changes_under_a_server_is_lost_and_says_why(redis, certificates, valkey, caplog):
    bus = RedisBus(redis.url())
    try:
        until(lambda: not bus.lost, DEADLINE_S, "the bell")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        redis.relay.context = context
        with caplog.at_level(logging.WARNING):
            valkey.kill()
            valkey.start()
            until(lambda: "certificate is not trusted" in caplog.text or not bus.lost, DEADLINE_S, "the loss")
            until(lambda: bus.lost, DEADLINE_S, "the loss")
        with pytest.raises(StoreError, match="ssl_ca_certs"):
            bus.check()
    finally:
        bus.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rediss://host/0?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs=/nowhere/ca.pem is no file"),
        ("redis://host/0?ssl_cert_reqs=none", "the option ssl_cert_reqs is not understood"),
        (f"rediss://host/0?ssl_cert_reqs={SECRET}", "the option ssl_cert_reqs is not understood"),
        (f"rediss://:{SECRET}@host/0?no_such={SECRET}", "the option no_such is not understood"),
    ],
)
def test_an_option_that_is_none_is_named_without_its_value(url, words):
    with pytest.raises(SettingsError, match=words) as refusal:
        connect(url, timeout_s=1.0)

    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_host_may_have_the_name_of_its_program(scheme):
    assert connect(f"{scheme}://valkey:6379/0", timeout_s=1.0).connection_pool.connection_kwargs["host"] == "valkey"


# All of it


def test_a_server_and_a_worker_run_a_turn_with_both_behind_tls(tmp_path, database, redis):
    given = {
        "DATABASE_URL": database.url(),
        "REDIS_URL": redis.url(),
        "OPENCODE_TURNS": "worker",
        "OPENCODE_AUTH_TOKENS": "a-token-through-tls",
    }
    worker = Server(tmp_path / "worker", [sys.executable, "-m", "opencode", "worker"], port=0, **given)
    server = Server.serve(tmp_path / "server", work=tmp_path / "work", token="a-token-through-tls", **given)
    worker.start()
    try:
        with server:
            worker.says("is ready", 60)
            client = Client(server)
            events = client.turn(client.session(), "list the files")
            check_turn(events, after=0)
            assert text_of(events)
            ready = client.call("GET", "/health/ready")
            assert ready.status == 200, ready.data
            limited = client.call("GET", "/api/sessions")
            assert limited.headers["RateLimit-Remaining"].isdigit()
            assert client.call("GET", "/metrics").data.count(b"opencode_limits_open_total 0.0") == 1
    finally:
        worker.kill()

    for part in (server, worker):
        assert "WARNING" not in part.output()
        assert SECRET not in part.output()


def test_the_commands_say_in_one_line_what_they_do_not_trust(tmp_path, database, redis, certificates):
    opencode = [sys.executable, "-m", "opencode"]
    right, wrong = database.url(), database.url(certificates.wrong)

    assert run([*opencode, "db", "upgrade"], tmp_path, seconds=90, DATABASE_URL=right).returncode == 0
    for command, variables in (
        (["db", "check"], {"DATABASE_URL": wrong}),
        (["worker"], {"DATABASE_URL": right, "REDIS_URL": redis.url(certificates.wrong)}),
        (["serve", "--port", "0"], {"DATABASE_URL": right, "REDIS_URL": redis.url(certificates.wrong)}),
    ):
        said = run([*opencode, *command], tmp_path, seconds=90, **variables)
        assert said.returncode != 0
        assert said.stderr.count("/path/ca.pem") == 1, said.stderr
        assert "Traceback" not in said.stderr
        assert SECRET not in said.stderr + said.stdout
