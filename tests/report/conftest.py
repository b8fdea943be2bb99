import pytest
from made_rows import write_run


@pytest.fixture
def make_run(tmp_path):
    """Write a run folder as training does, and return it."""

    def make(name, rows, **more):
        return write_run(tmp_path / "runs", name, rows, **more)

    return make
