"""Offline soft labels for knowledge distillation: run the teacher once, train many students.

Names are listed in `__init__.pyi` and loaded when first used, so that importing softlab doesn't wait for torch.
"""

from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name != "__version__":
        return _load(name)
    from importlib.metadata import version

    return version("softlab")
