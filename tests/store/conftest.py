"""Other processes, which tests of stores need."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

pytest.register_assert_rewrite("softlab.testing")


@pytest.fixture(scope="package")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Two fresh processes, shared by all tests because each imports torch anew."""
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        yield pool
