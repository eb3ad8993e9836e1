"""What the demo's teacher said, dumped once for all tests of students."""

from pathlib import Path

import pytest

from softlab.store.reader import Store, open_store
from tests.student.fashion import dump


@pytest.fixture(scope="session")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of all classes in float32 (`full`), of four in float16 (`narrow`), and of other samples (`valid`)."""
    folder = tmp_path_factory.mktemp("dumped")
    dump(folder / "full", k=10, coding="float32")
    dump(folder / "narrow", k=4, coding="float16")
    dump(folder / "valid", "test", k=10, coding="float32")
    return folder


@pytest.fixture
def full_store(dumped: Path) -> Store:
    return open_store(dumped / "full")


@pytest.fixture
def narrow_store(dumped: Path) -> Store:
    return open_store(dumped / "narrow")


@pytest.fixture
def valid_store(dumped: Path) -> Store:
    return open_store(dumped / "valid")
