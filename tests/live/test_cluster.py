"""Several servers and workers on PostgreSQL and Valkey: one service, whatever part of it dies."""

import pytest

from bench.cluster import cluster_run

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]


def test_nothing_that_a_client_saw_is_lost_whatever_part_of_a_cluster_dies(tmp_path):
    numbers, faults = cluster_run(tmp_path, sessions=4, turns=8, rounds=1, seconds=300.0, say=lambda _line: None)

    assert faults == []
    # And there was something to lose
    assert numbers["turns taken over"]
    assert numbers["turns completed"] >= 8
