"""Limits that several processes count together, and what holds while Redis is away."""

import logging

import pytest

from tests.session.story import eventually

SHARED = {"rate_limit": True, "rate_limit_max_requests": 3, "rate_limit_window_ms": 600_000}


@pytest.mark.live
def test_processes_count_together_and_let_everybody_pass_while_redis_is_away(make_app, postgres_url, valkey, caplog):
    both = [make_app(database_url=postgres_url, redis_url=valkey.url, **SHARED).test_client() for _ in range(2)]

    def ask(client=both[0]):
        return client.get("/api/sessions").status_code

    assert [ask(both[0]), ask(both[1]), ask(both[0]), ask(both[1])] == [200, 200, 200, 429]

    with caplog.at_level(logging.WARNING):
        valkey.kill()
        assert [ask() for _ in range(5)] == [200] * 5
    assert "nobody is limited until it is back" in caplog.text
    metrics = both[0].get("/metrics").get_data(as_text=True)
    assert "opencode_limits_open_total 0.0" not in metrics

    valkey.start()
    eventually(lambda: ask() == 429, 30.0)
