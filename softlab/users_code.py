"""Modules of the user's own: models and modalities that are given as `package.module`."""

import importlib
import os
import sys
from types import ModuleType


def import_users_module(name: str) -> ModuleType:
    """A module of an installed package, or one in the current folder. Raises ImportError."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last and for good: it hides no package, and what it holds may import later
    return importlib.import_module(name)
