"""What every test has: one thread for torch, and a row cache of its own."""

from pathlib import Path

import pytest
import torch

from softlab.store import cache

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_row_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own cache folder is not touched."""
    folder = tmp_path_factory.mktemp("row-cache")
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda name: str(folder))
    return folder
