"""Webhooks: stored with their event, signed, delivered until they arrive, and never to where they must not go."""

import ipaddress
import json
import re
import socket
import sqlite3
import ssl
import threading
import time
from contextlib import closing, contextmanager

import pytest

from opencode.changes import PutWebhooks
from opencode.errors import SettingsError, WebhookFailed
from opencode.provider.port import Text, ToolCall, Usage
from opencode.provider.scripted import Wait
from opencode.records import Webhook
from opencode.session.outbox import Outbox
from opencode.storage.port import Append
from opencode.storage.sql import open_store
from opencode.webhook import addresses
from opencode.webhook.addresses import Allowed, Refused, is_public, resolve, target
from opencode.webhook.post import Poster
from opencode.webhook.signature import key_of, sign
from tests.contracts.stored import stored_session, text
from tests.live.server import ROOT, until
from tests.server.talk import create, say, turn
from tests.webhook.receiver import SECRET, Receiver
from tests.wire.certificate import make_certificate

LOOPBACK = Allowed.read(("127.0.0.1",))


@pytest.fixture
def receiver():
    with Receiver() as own:
        yield own


@pytest.fixture
def store(tmp_path):
    own = open_store(None, tmp_path / "data")
    yield own
    own.close()


@contextmanager
def delivering(store, post, **options):
    outbox = Outbox(store, post, **options)
    try:
        yield
    finally:
        outbox.close()


def poster(*receivers):
    return Poster({own.url: target(own.url, LOOPBACK) for own in receivers}, LOOPBACK, key_of(SECRET))


def put(store, session, *receivers, kind="turn_done"):
    """What a turn's end stores."""
    urls = tuple(own.url for own in receivers)
    append = Append(session.id, [text("x")], (PutWebhooks(session.id, urls, kind, "text"),))
    (committed,) = store.commit([append])
    return committed


# From a turn to the receiver


def settings_for(*receivers):
    return {
        "webhook_urls": tuple(own.url for own in receivers),
        "webhook_secret": SECRET,
        "webhook_allow": ("127.0.0.1",),
    }


def test_a_turns_end_and_a_question_are_posted_signed(make_app, receiver):
    script = [[ToolCall("c", "bash", {"command": "echo hi"}), Usage(1, 1)], [Text("done"), Usage(1, 1)]]
    client = make_app(script, permission={"bash": "ask"}, **settings_for(receiver)).test_client()
    session = create(client)
    stream = say(client, session)
    asked = stream.until("permission_request")[-1]
    client.post(f"/api/session/{session}/permission/{asked.data['permission_id']}", json={"response": "once"})
    done = stream.rest()[-1]
    until(lambda: len(receiver.requests) == 2, 30, lambda: receiver.requests)

    request, end = receiver.bodies
    assert (request["type"], end["type"]) == ("permission_request", "turn_done")
    assert request["data"] == {"session_id": session, **asked.data}
    assert end["data"] == {"session_id": session, **done.data}
    for path, headers, body in receiver.requests:
        assert path == "/hook?key=s3cret"
        assert headers["Content-Type"] == "application/json"
        expected = sign(key_of(SECRET), headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        assert headers["webhook-signature"] == expected
    assert receiver.requests[0][1]["webhook-id"] != receiver.requests[1][1]["webhook-id"]


def test_an_aborted_turn_is_posted_too(make_app, receiver):
    go = threading.Event()
    client = make_app([[Text("a"), Wait(go)]], **settings_for(receiver)).test_client()
    session = create(client)
    stream = say(client, session)
    stream.until("text")
    client.post(f"/api/session/{session}/abort", json={})
    go.set()
    stream.rest()

    until(lambda: receiver.requests, 30, "the webhook")
    assert receiver.bodies[0]["data"]["status"] == "aborted"


def test_what_did_not_arrive_before_a_stop_arrives_after_the_next_start(make_app, receiver):
    receiver.stop()
    settings = settings_for(receiver)
    app = make_app(**settings)
    data_dir = app.extensions["opencode"].settings.data_dir
    client = app.test_client()
    turn(client, create(client))
    make_app.stop(app)
    receiver.start()
    with closing(sqlite3.connect(data_dir / "store.sqlite3")) as connection, connection:
        assert connection.execute("UPDATE webhooks SET due_at = 0").rowcount == 1

    store = open_store(None, data_dir)
    outbox = Outbox(store, poster(receiver), pause_s=0.01)
    try:
        until(lambda: receiver.requests, 60, "the webhook")
    finally:
        outbox.close()
        store.close()
    assert receiver.bodies[0]["type"] == "turn_done"


# Trying again


def test_a_receiver_that_fails_twice_gets_it_once_with_the_same_id(store):
    with Receiver(500, 503) as receiver:
        put(store, stored_session(store), receiver)
        with delivering(store, poster(receiver), pause_s=0.01):
            until(lambda: store.next_webhook() is None, 30, "the outbox to be empty")

    assert len(receiver.requests) == 3
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1
    assert len({body for _, _, body in receiver.requests}) == 1


def test_a_receiver_that_is_down_for_a_while_holds_up_nobody_else(store):
    with Receiver() as down, Receiver() as up:
        session = stored_session(store)
        down.stop()
        for _ in range(3):
            put(store, session, down, up)
        with delivering(store, poster(down, up), pause_s=0.2):
            until(lambda: len(up.requests) == 3, 30, "the one that is up")
            assert down.requests == []
            down.start()
            until(lambda: len(down.requests) == 3, 60, "the one that was down")
        assert store.next_webhook() is None


def test_while_a_receiver_rests_nothing_else_is_tried_on_it(store, tmp_path):
    with Receiver() as down, Receiver() as up:
        session = stored_session(store)
        down.stop()
        for _ in range(3):
            put(store, session, down, up)
        with delivering(store, poster(down, up), pause_s=600.0):
            until(lambda: len(up.requests) == 3, 30, "the one that is up")

    with closing(sqlite3.connect(tmp_path / "data" / "store.sqlite3")) as connection:
        assert connection.execute("SELECT attempts FROM webhooks ORDER BY id").fetchall() == [(1,), (0,), (0,)]


def test_pauses_grow_and_at_last_it_is_given_up(store, caplog):
    with Receiver(*[500] * 20) as receiver:
        put(store, stored_session(store), receiver)
        with delivering(store, poster(receiver), pause_s=0.01, attempts=5):
            until(lambda: store.next_webhook() is None, 60, "the outbox to be empty")

    assert len(receiver.requests) == 5
    said = [float(own) for own in re.findall(r"again in ([\d.]+) s", caplog.text)]
    assert len(said) == 4
    assert "given up after 5 attempts: 127.0.0.1 answered 500" in caplog.text
    assert "s3cret" not in caplog.text


def test_one_that_is_too_old_is_given_up(store):
    with Receiver(500) as receiver:
        put(store, stored_session(store), receiver)
        with delivering(store, poster(receiver), pause_s=60.0, age_s=0.0):
            until(lambda: store.next_webhook() is None, 30, "the outbox to be empty")


def test_closing_cuts_off_a_post_and_keeps_it(store):
    began = threading.Event()

    class Slow:
        """A receiver that answers when it is cut."""

        def __init__(self):
            self.cut_off = threading.Event()

        def __call__(self, webhook):
            began.set()
            assert self.cut_off.wait(60)
            raise WebhookFailed("cut")

        def cut(self):
            self.cut_off.set()

    with Receiver() as receiver:
        put(store, stored_session(store), receiver)
        outbox = Outbox(store, Slow())
        assert began.wait(30)
        outbox.close()

    assert store.next_webhook().attempts == 0


def test_a_refused_append_leaves_nothing_in_the_outbox(store):
    session = stored_session(store)
    change = PutWebhooks(session.id, ("https://x.example/",), "turn_done", "text")
    store.commit([Append(session.id, [text("x")], (change,), turn=("trn_none", 1))])

    assert store.next_webhook() is None


# One post


def a_webhook(url):
    return Webhook(id="whk_1", url=url, body=b"{}", attempts=0, created_at=time.time(), due_at=0.0)


@pytest.mark.parametrize("status", [301, 307, 400, 500])
def test_redirects_are_not_followed_and_only_2xx_counts(status):
    with Receiver(status) as receiver:
        with pytest.raises(WebhookFailed, match=f"127.0.0.1 answered {status}"):
            poster(receiver)(a_webhook(receiver.url))
        assert [path for path, _, _ in receiver.requests] == ["/hook?key=s3cret"]


def test_over_tls_it_goes_to_whom_the_certificate_names_and_to_nobody_else(tmp_path, monkeypatch):
    made, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    with Receiver(tls=context) as receiver:
        with pytest.raises(WebhookFailed, match="CERTIFICATE_VERIFY_FAILED"):
            poster(receiver)(a_webhook(receiver.url))
        assert receiver.requests == []

        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        poster(receiver)(a_webhook(receiver.url))
        assert len(receiver.requests) == 1


def test_a_handshake_that_is_drawn_out_is_cut_off():
    left = []

    def draw_out(listener):
        client, _ = listener.accept()
        with client:
            client.settimeout(0.1)
            client.sendall(b"\x16\x03\x03\x40\x00\x02")  # a record of 16 KiB, of which one byte after the other comes
            for _ in range(80):
                try:
                    while client.recv(4096):
                        pass
                except TimeoutError:
                    client.sendall(b"\0")
                    continue
                except ConnectionError:
                    pass
                left.append(True)
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=draw_out, args=(listener,))
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        own = Poster({url: target(url, LOOPBACK)}, LOOPBACK, key_of(SECRET), whole_s=0.5)
        with pytest.raises(WebhookFailed, match=r"127\.0\.0\.1"):
            own(a_webhook(url))
        thread.join(60)

    assert left


def test_a_url_that_left_the_settings_is_final():
    with pytest.raises(WebhookFailed) as failed:
        Poster({}, LOOPBACK, key_of(SECRET))(a_webhook("https://gone.example/"))
    assert failed.value.final


def test_an_address_that_is_not_listed_is_never_connected_to(receiver):
    """Also where the name was public once: it is looked up anew, and what was checked is what is connected to."""
    nobody = Allowed.read(())
    own = Poster({receiver.url: target(receiver.url, LOOPBACK)}, nobody, key_of(SECRET))

    with pytest.raises(WebhookFailed, match="not public; OPENCODE_WEBHOOK_ALLOW does not list it"):
        own(a_webhook(receiver.url))
    assert receiver.requests == []


def test_it_connects_to_the_checked_address_and_asks_no_more(receiver, monkeypatch):
    looked_up, real = [], socket.getaddrinfo

    def rebinding(host, port, *args, **kwargs):
        if host != "hooks.example":
            return real(host, port, *args, **kwargs)
        looked_up.append(host)
        found = "127.0.0.1" if len(looked_up) == 1 else "127.0.0.2"
        return [(2, 1, 6, "", (found, port))]

    url = f"http://hooks.example:{receiver.port}/"
    own = Poster({url: target(url, Allowed.read(("hooks.example",)))}, LOOPBACK, key_of(SECRET))
    monkeypatch.setattr(addresses.socket, "getaddrinfo", rebinding)

    own(a_webhook(url))

    assert receiver.requests[0][1]["Host"] == f"hooks.example:{receiver.port}"
    assert looked_up == ["hooks.example"]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1", "::127.0.0.1", "::ffff:0:127.0.0.1",
        "64:ff9b:1::7f00:1", "fec0::1", "2001:0:7f00:1::",
        "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:7f00:0:100::", "::7f00:1",
    ],
)  # fmt: skip
def test_what_is_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_what_is_public(address):
    assert is_public(ipaddress.ip_address(address))


def test_one_private_address_among_several_refuses_them_all(monkeypatch):
    found = [(2, 1, 6, "", ("1.1.1.1", 443)), (10, 1, 6, "", ("::1", 443, 0, 0))]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *args, **kwargs: found)

    with pytest.raises(Refused, match=r"x\.example is ::1"):
        resolve(target("https://x.example/", Allowed.read(())), Allowed.read(()))


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"webhook_urls": ("https://x.example",)}, "OPENCODE_WEBHOOK_SECRET must be whsec_"),
        ({"webhook_urls": ("https://x.example",), "webhook_secret": "whsec_c2hvcnQ="}, "24 to 64"),
        ({"webhook_urls": ("https://x.example",), "webhook_secret": SECRET[6:]}, "whsec_"),
        ({"webhook_urls": ("http://x.example",), "webhook_secret": SECRET}, "Use https"),
        ({"webhook_urls": ("ftp://x",), "webhook_secret": SECRET}, "such as https://name"),
        ({"webhook_urls": ("https://a:b@x.example",), "webhook_secret": SECRET}, "without user"),
        ({"webhook_urls": ("https://x:port",), "webhook_secret": SECRET}, "is no URL"),
        (
            {"webhook_urls": ("https://x",), "webhook_secret": SECRET, "webhook_allow": ("10.0.0.1/8",)},
            "OPENCODE_WEBHOOK_ALLOW: '10.0.0.1/8'",
        ),
    ],
)
def test_settings_that_cannot_be_honoured_stop_the_start(make_app, settings, words):
    with pytest.raises(SettingsError) as refused:
        make_app(**settings)
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "c2hvcnQ=" not in str(refused.value)


def test_the_verification_in_the_docs_takes_what_is_signed_and_nothing_else():
    (snippet,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "monitoring.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names = {}
    exec(compile(snippet, "docs/monitoring.md", "exec"), names)
    body, now = json.dumps({"type": "turn_done"}).encode(), int(time.time())
    headers = {"webhook-id": "whk_1", "webhook-timestamp": str(now)}
    signed = {**headers, "webhook-signature": f"v1,b2xk {sign(key_of(SECRET), 'whk_1', now, body)}"}

    assert names["is_genuine"](SECRET, signed, body)
    assert not names["is_genuine"](SECRET, signed, body + b" ")
    assert not names["is_genuine"](SECRET, {**signed, "webhook-id": "whk_2"}, body)
    old = {**headers, "webhook-timestamp": str(now - 3600)}
    assert not names["is_genuine"](
        SECRET, {**old, "webhook-signature": sign(key_of(SECRET), "whk_1", now - 3600, body)}, body
    )
