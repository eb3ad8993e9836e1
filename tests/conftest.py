"""What holds for all tests."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("softlab", deadline=None)  # a first example also pays for imports, and machines are shared
settings.load_profile("softlab")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
