"""What teachers said, dumped once for all tests of students."""

from pathlib import Path

import pytest

from softlab.store.reader import Store, open_store
from tests.student import pictures
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


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of the pictures: of all classes in float32 by one teacher, with its features (`first`), and by another
    (`second`), and of three classes by both (`narrow`, `other_narrow`)."""
    folder = tmp_path_factory.mktemp("taught")
    pictures.make_store(folder / "first", feature=pictures.FEATURES)
    pictures.make_store(folder / "second", seed=1)
    pictures.make_store(folder / "narrow", k=3)
    pictures.make_store(folder / "other_narrow", seed=1, k=3)
    return folder


@pytest.fixture
def first(taught: Path) -> Store:
    return open_store(taught / "first")


@pytest.fixture
def second(taught: Path) -> Store:
    return open_store(taught / "second")
