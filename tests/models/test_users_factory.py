import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Optional, TypeVar

import pytest
from torch import nn

from softlab.errors import InvalidOption, ModelError
from softlab.models.build import ModelOptions, build_model
from softlab.models.users_factory import check_factory

Model = TypeVar("Model", bound=nn.Module)


class Net(nn.Linear):
    @classmethod
    def small(cls) -> "Net":
        return cls(1, 1)


class Maker:
    def __call__(self) -> nn.Module:
        return Net(1, 1)


def untold():  # type: ignore[no-untyped-def]  # noqa: ANN201
    return Net(1, 1)


def told() -> Net:
    return Net(1, 1)


def told_maybe() -> nn.Module | None:
    return Net(1, 1)


def told_maybe_of_old() -> Optional["Net"]:
    return Net(1, 1)


def told_of_a_kind(model: Model) -> Model:
    return model


def told_of_what_isnt_here() -> "Missing":  # type: ignore[name-defined]  # noqa: F821
    return Net(1, 1)


def text() -> str:
    raise AssertionError("it was called")


def anything() -> Any:
    raise AssertionError("it was called")


def nothing() -> None:
    raise AssertionError("it was called")


@pytest.mark.parametrize(
    "factory",
    [
        *(Net, Net.small, Maker(), untold, told, told_maybe, told_maybe_of_old, told_of_a_kind),
        *(told_of_what_isnt_here, partial(told), cache(untold), nn.Linear),
    ],
)
def test_what_may_make_a_model_may_be_called(factory: Callable[..., object]) -> None:
    check_factory(factory, model="own:it")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (os.system, "is of Python itself, or isn't written in Python, and is not called"),
        (eval, "is of Python itself, or isn't written in Python, and is not called"),
        (subprocess.call, "is of Python itself, or isn't written in Python, and is not called"),
        (partial(os.system, "true"), "is of Python itself, or isn't written in Python, and is not called"),
        (cache(os.system), "is of Python itself, or isn't written in Python, and is not called"),
        ("".join, "is of Python itself, or isn't written in Python, and is not called"),
        (subprocess.Popen, "the class Popen is no torch.nn.Module"),
        (text, "by its annotation it returns str, and is not called"),
        (anything, "by its annotation it returns Any, and is not called"),
        (nothing, "by its annotation it returns NoneType, and is not called"),
    ],
)
def test_what_makes_no_model_is_refused_and_not_called(factory: Callable[..., object], message: str) -> None:
    with pytest.raises(ModelError, match=f"^own:it: {message}.* Name a class of torch.nn.Module, or a function"):
        check_factory(factory, model="own:it")


@pytest.mark.parametrize("model", ["os:system", "subprocess:call", "builtins:eval", "os.path:join", "posix:system"])
def test_a_module_of_python_is_refused_before_anything_is_called(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ModelOptions(model=model, arguments={"command": "touch called", "source": "open('called', 'w')"})

    with pytest.raises(InvalidOption, match=r"is a module of Python itself.* Name a module of yours"):
        build_model(options)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["os.system", "system", "run"])
def test_a_module_that_leads_to_one_of_python_is_no_way_around(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leads_to_python.py").write_text("import os\nfrom os import system\nfrom subprocess import run\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "leads_to_python", raising=False)

    with pytest.raises(ModelError, match=r"has no such model|is not called"):
        build_model(ModelOptions(model=f"leads_to_python:{name}", arguments={"command": "touch called"}))

    assert not (tmp_path / "called").exists()
