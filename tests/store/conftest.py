"""Other processes, which tests of stores need."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.forks import FORKS

pytest.register_assert_rewrite("softlab.testing")


@pytest.fixture(scope="package")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Two other processes, shared by all tests."""
    with ProcessPoolExecutor(max_workers=2, mp_context=FORKS) as pool:
        yield pool
