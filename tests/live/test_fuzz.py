"""A small share of `python -m bench.fuzz`: no request of schemathesis gets a 500, or an answer beside the document."""

import re

import pytest

from bench.fuzz import fuzz

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]


def test_random_requests_get_documented_answers(tmp_path):
    done = fuzz(tmp_path, 5, phases="examples,fuzzing,stateful", limit_s=360)

    assert done.returncode == 0, done.stdout + done.stderr
    cases = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert cases, done.stdout
    assert int(cases[1]) == int(cases[2]) > 100
    assert re.search(r"API Links: +[1-9]\d* covered", done.stdout), done.stdout
