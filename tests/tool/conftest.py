import pytest

from tests.tool.desk import Desk


@pytest.fixture
def desk(tmp_path):
    directory = tmp_path / "work"
    directory.mkdir()
    return Desk(directory)
