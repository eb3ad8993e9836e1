"""Stores of the demo's data."""

from pathlib import Path

import pytest

from tests.recipes.demo import dump


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of 200 training images."""
    out = tmp_path_factory.mktemp("stores") / "train.zarr"
    dump(out).run()
    return out
