"""Modules of the user's own: which are imported, and what is told of them."""

import sys
import warnings
from pathlib import Path

import pytest

from softlab.errors import InvalidOption, UsersCode
from softlab.users_code import find_users_package, import_users_module, is_installed

EVIL = "from pathlib import Path\nPath('imported').touch()\nMODALITY = None\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module that leaves a trace when it is imported."""
    (tmp_path / "leaves_a_trace.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr("softlab.users_code._told", set())
    monkeypatch.delitem(sys.modules, "leaves_a_trace", raising=False)
    return tmp_path


def is_imported(folder: Path) -> bool:
    return (folder / "imported").exists()


def test_one_outside_the_installed_packages_is_told_of_once_and_before_it_runs(here: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UsersCode)
        with pytest.raises(UsersCode, match=r"^leaves_a_trace is code outside .*, and is run: .*/leaves_a_trace\.py$"):
            import_users_module("leaves_a_trace", tell=True)
        is_imported_then = is_imported(here)
        import_users_module("leaves_a_trace", tell=True)

    assert (is_imported_then, is_imported(here)) == (False, True)


def test_an_installed_one_is_not_told_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UsersCode)
        import_users_module("torch.nn", tell=True)
        import_users_module("softlab.errors", tell=True)


def test_where_one_would_come_from_is_found_without_importing_it(here: Path) -> None:
    place, installed = find_users_package("leaves_a_trace.inner"), find_users_package("torchvision.models")

    assert place == here / "leaves_a_trace.py"
    assert not is_installed(place)
    assert installed is not None
    assert is_installed(installed)
    assert find_users_package("no_such_package") is None
    assert not is_imported(here)


def test_pythons_own_are_refused() -> None:
    with pytest.raises(InvalidOption, match="'antigravity' is a module of Python itself"):
        import_users_module("antigravity", tell=False)
