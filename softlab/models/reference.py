"""The reference models of all modalities by name, as `softlab:NAME` has them and as `reference.NAME` here.

Each folder of `softlab.modalities` may have a module `models`, which lists its own in `__all__`.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable

MODALITIES = "softlab.modalities"


def reference_models() -> dict[str, Callable[..., object]]:
    """Their factories by name."""
    models: dict[str, Callable[..., object]] = {}
    for folder in pkgutil.iter_modules(importlib.import_module(MODALITIES).__path__):
        if folder.ispkg and importlib.util.find_spec(f"{MODALITIES}.{folder.name}.models"):
            module = importlib.import_module(f"{MODALITIES}.{folder.name}.models")
            models |= {name: getattr(module, name) for name in module.__all__}
    return models


def __getattr__(name: str) -> Callable[..., object]:
    models = reference_models()
    if name not in models:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return models[name]
