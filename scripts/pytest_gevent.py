"""Run pytest as the server runs: monkey-patched before anything else is imported."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402 - after the patch, as in a gevent worker
import sys  # noqa: E402 - as above

import pytest  # noqa: E402 - as above

if __name__ == "__main__":
    os.environ["OPENCODE_TEST_GEVENT"] = "1"  # tests/test_gevent.py proves the patch by it
    sys.exit(pytest.main(sys.argv[1:]))
