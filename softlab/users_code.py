"""Modules of the user's own: models and modalities that are given as `package.module`.

They are code, and run with the user's rights when they are imported. So they are imported for what a user names alone,
never for a name that stands in a store, a card, a catalogue or a file of weights.
"""

import importlib
import importlib.util
import os
import site
import sys
import sysconfig
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from multiprocessing import parent_process
from pathlib import Path
from types import ModuleType

from softlab.errors import InvalidOption, UsersCode

_told: set[str] = set()
"""Packages that this process has told of."""


def import_users_module(name: str, *, tell: bool) -> ModuleType:
    """A module of an installed package, or one in the current folder. Raises ImportError, and InvalidOption for a
    module of Python itself. With `tell` the first use of one that isn't installed warns with UsersCode, before its code
    runs."""
    if is_pythons_own(name):
        raise InvalidOption(
            f"{name!r} is a module of Python itself, which has no models and no modalities. Name a module of yours or "
            f"of an installed package."
        )
    if tell and parent_process() is None:
        _tell_once(name)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last and for good: it hides no package, and what it holds may import later
    return importlib.import_module(name)


def is_pythons_own(module: str) -> bool:
    """Whether a module is of the standard library, so that what it holds may do anything."""
    return _package(module) in sys.stdlib_module_names


def find_users_package(module: str) -> Path | None:
    """Where the package of a module would be imported from; None where there is none. Nothing is imported."""
    package = _package(module)
    try:
        spec = importlib.util.find_spec(package) or PathFinder.find_spec(package, [os.getcwd()])
    except (ImportError, ValueError):  # no name of a package, or a module without a file
        return None
    return None if spec is None else _place(spec)


def is_installed(place: Path) -> bool:
    """Whether that is among the packages of this environment, or softlab's own."""
    paths = sysconfig.get_paths()
    installed: list[str] = [paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]
    folders = [*map(Path, installed), Path(__file__).parent]
    return any(place.is_relative_to(folder.resolve()) for folder in folders)


def _tell_once(module: str) -> None:
    package, place = _package(module), find_users_package(module)
    if place is None or package in _told or is_installed(place):
        return
    _told.add(package)
    warnings.warn(f"{package} is code outside the installed packages, and is run: {place}", UsersCode, stacklevel=4)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _place(spec: ModuleSpec) -> Path | None:
    places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    return Path(places[0]).resolve() if places else None
