"""Small runs of `bench.faults`: what a client saw is never lost, whatever is killed, cut, full or locked."""

import pytest

from bench import fault_scenarios
from bench.fault_server import provider
from bench.faults import kill_run


def test_nothing_that_a_client_saw_is_lost_when_worker_and_master_are_killed(tmp_path):
    found = kill_run(tmp_path, kills=4, seed=8, turns=4, between=(0.1, 1.0), say=lambda _line: None, seconds=100)

    assert found.faults == []
    # And there was something to lose
    assert found.numbers["turns taken up or asked again"]
    assert found.numbers["turns completed"]
    assert found.numbers["reconnects"] >= 4


@pytest.fixture(scope="module")
def base_url(tmp_path_factory):
    with provider(tmp_path_factory.mktemp("provider"), seconds=300) as (base_url, complaints):
        yield base_url
        assert complaints.read_text() == ""


@pytest.mark.parametrize("name", ["provider_cut", "busy", "disk_full", "io_error"])
def test_nothing_is_lost_when(name, tmp_path, base_url):
    assert fault_scenarios.run(name, tmp_path, base_url) == []


def test_three_stops_in_a_row_do_not_spend_the_attempts_of_a_turn_that_waits(tmp_path, base_url):
    assert fault_scenarios.run("three_stops", tmp_path, base_url, slow=False) == []
