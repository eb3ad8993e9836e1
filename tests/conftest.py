"""What every test has: one thread for torch, time for hypothesis, a row cache of its own, a GPU where it needs one."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# No deadline: a first example also pays for imports, and machines are shared. The same examples in every run: a change
# is judged by what it changes; `pytest --hypothesis-profile searching` draws others.
settings.register_profile("softlab", deadline=None, derandomize=True)
settings.register_profile("searching", deadline=None)
settings.load_profile("softlab")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _own_row_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own cache folder is not touched."""
    folder = tmp_path_factory.mktemp("row-cache")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(folder))
    return folder
