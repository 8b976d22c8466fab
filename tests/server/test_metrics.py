"""`/metrics`, read with the parser of prometheus_client (API section 7)."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from opencode.errors import ProviderError, SettingsError
from opencode.provider.port import Text, Usage
from opencode.provider.scripted import Fail
from opencode.server import gunicorn_conf
from opencode.server.metrics import CONTENT_TYPE, Metrics
from tests.live.server import ROOT, until
from tests.server.talk import create, follow, refused, turn


def read(client, **options):
    """Every sample, by name and labels."""
    response = client.get("/metrics", **options)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == CONTENT_TYPE
    return samples(response.text)


def samples(text):
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "pid")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_never_by_path(client):
    session = create(client)
    for _ in range(3):
        client.get(f"/api/session/{session}")
    client.get("/api/session/ses_other")
    client.get("/nope/one")
    client.get("/nope/two")
    client.open("/api/sessions", method="FROBNICATE")

    found = read(client)

    route = "/api/session/<session_id>"
    assert found["opencode_requests_total", "GET", route, "200"] == 3
    assert found["opencode_requests_total", "GET", route, "404"] == 1
    assert found["opencode_requests_total", "GET", "unmatched", "404"] == 2
    assert found["opencode_requests_total", "other", "unmatched", "405"] == 1
    assert found["opencode_request_duration_seconds_count", "GET", route] == 4
    assert not [key for key in found if "ses_" in "".join(key) or "nope" in "".join(key)]


def test_turns_events_and_tokens_are_counted_as_they_are_stored(make_app):
    app = make_app([[Text("a")] * 50 + [Usage(7, 3, 2)]])
    client = app.test_client()
    events = turn(client, create(client))

    found = read(client)

    assert found["opencode_events_total",] == len(events)
    assert found["opencode_turns_total", "completed"] == 1
    assert [found["opencode_tokens_total", kind] for kind in ("input", "output", "cached")] == [7, 3, 2]
    until(lambda: read(client)["opencode_running_turns",] == 0, 30, "the turn's thread to end")


def test_open_streams_are_a_gauge(client):
    session = create(client)
    before = read(client)["opencode_open_streams",]

    stream = follow(client, session)
    during = read(client)["opencode_open_streams",]
    stream.close()
    stream.close()  # as servers may, once more

    found = read(client)
    assert (before, during, found["opencode_open_streams",]) == (0, 1, 0)
    assert found["opencode_stream_duration_seconds_count", "/api/session/<session_id>/message"] == 1


def test_failures_of_providers_are_counted_the_retried_ones_too(make_app):
    broken = ProviderError("x", code="PROVIDER_UNAVAILABLE", retryable=True, retry_after_s=0.0)
    client = make_app([[Fail(broken, times=2), Text("at last"), Usage(1, 1)]]).test_client()
    turn(client, create(client))

    assert read(client)["opencode_provider_errors_total", "PROVIDER_UNAVAILABLE", "scripted"] == 2


def test_a_limit_that_refuses_is_counted_by_its_setting(make_app):
    client = make_app(rate_limit=True, rate_limit_max_sessions=1, rate_limit_max_requests=50).test_client()
    create(client)
    refused(client.post("/api/session"), 429, "RATE_LIMIT_EXCEEDED")

    assert read(client)["opencode_limit_hits_total", "OPENCODE_RATE_LIMIT_MAX_SESSIONS"] == 1


def test_two_apps_of_a_process_count_apart(make_app):
    one, other = make_app().test_client(), make_app().test_client()
    create(one)

    key = ("opencode_requests_total", "POST", "/api/session", "200")
    assert read(one)[key] == 1
    assert key not in read(other)


def test_it_asks_for_a_token_where_auth_is_on(make_app):
    client = make_app(auth_tokens=("secret-token", "ann:write:other-token"), shared_shell=True).test_client()

    refused(client.get("/metrics"), 401, "UNAUTHORIZED")
    refused(client.get("/metrics", headers={"Authorization": "Bearer other-token"}), 403, "FORBIDDEN")
    assert read(client, headers={"Authorization": "Bearer secret-token"})


WORKER = """
import os
from opencode.server.metrics import Metrics
metrics = Metrics(os.environ)
metrics.request("GET", "/health", 200, 0.01)
metrics.stream_opened("GET", "/x")
print(metrics.text().decode())
print("# pid", os.getpid())
"""


def test_several_workers_show_their_sum_and_one_that_ended_leaves_no_open_streams(tmp_path, monkeypatch):
    environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for expected in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", WORKER], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        found = samples(done.stdout)
        assert found["opencode_requests_total", "GET", "/health", "200"] == expected
        assert found["opencode_open_streams",] == 1
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        gunicorn_conf.child_exit(None, SimpleNamespace(pid=int(done.stdout.rpartition("# pid")[2])))


def test_the_folder_of_several_workers_is_made_and_one_that_cannot_be_is_named(tmp_path):
    environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "not" / "yet")}
    done = subprocess.run(
        [sys.executable, "-c", WORKER], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match=r"PROMETHEUS_MULTIPROC_DIR: .*file is no folder.*unset it"):
        Metrics({"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file")})


@pytest.mark.parametrize("pieces", [10, 1000])
def test_pieces_of_text_cost_no_count_of_their_own(make_app, pieces):
    """One increment a commit: what a long answer adds are its events, not calls."""
    app = make_app([[Text("x")] * pieces + [Usage(1, 1)]])
    commits = []
    app.extensions["opencode"].log.watchers.append(commits.append)
    client = app.test_client()

    events = turn(client, create(client))

    appends = [append for commit in commits for append in commit]
    assert sum(len(append.frames) for append in appends) == len(events) == pieces + 3
    assert [name for append in appends for name, _ in append.notable()] == ["turn_start", "done"]
    assert len(commits) < pieces / 2 or pieces == 10
