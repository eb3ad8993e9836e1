"""Places to publish at, and two small stores."""

from pathlib import Path

import pytest

from tests.sharing.publishing import small_store


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.process)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nothing is published yet: a folder, or a bucket of a real server."""
    if request.param == "folder":
        return str(tmp_path / "labels")
    return f"{request.getfixturevalue('bucket')}/team/labels"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "labels")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return small_store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return small_store(tmp_path / "other", k=4)
