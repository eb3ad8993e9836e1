"""The output of the demo's teacher for its training and test samples, dumped once for all tests of evaluation."""

from pathlib import Path

import pytest

from softlab.store.reader import Store, open_store
from tests.student.fashion import dump


@pytest.fixture(scope="session")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of all classes in float32, of training samples (`full`) and of others (`valid`)."""
    folder = tmp_path_factory.mktemp("dumped")
    dump(folder / "full", k=10, coding="float32")
    dump(folder / "valid", "test", k=10, coding="float32")
    return folder


@pytest.fixture
def full_store(dumped: Path) -> Store:
    return open_store(dumped / "full")


@pytest.fixture
def valid_store(dumped: Path) -> Store:
    return open_store(dumped / "valid")
