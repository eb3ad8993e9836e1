"""Which function or class of a module may be called to build a model.

Only what is or makes a torch.nn.Module is called. What a function without a return annotation makes is known only after
the call: so one of Python itself, such as `subprocess.call`, or one that isn't written in Python, is never called.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any, TypeVar

from torch import nn

from softlab.errors import ModelError
from softlab.users_code import is_pythons_own

ASKED = "Name a class of torch.nn.Module, or a function that returns one"


def check_factory(factory: Callable[..., object], *, model: str) -> None:
    """Raises ModelError for what makes no model, or can't be known to make one; calls nothing."""
    called = _called(factory)
    if isinstance(called, type):
        if not issubclass(called, nn.Module):
            raise ModelError(f"{model}: the class {called.__qualname__} is no torch.nn.Module. {ASKED}.")
        return
    if not isinstance(called, FunctionType) or is_pythons_own(str(called.__globals__.get("__name__"))):
        raise ModelError(f"{model}: is of Python itself, or isn't written in Python, and is not called. {ASKED}.")
    annotation = _return_annotation(called)
    if annotation is not inspect.Parameter.empty and not _may_be_module(annotation):
        raise ModelError(
            f"{model}: by its annotation it returns {_named(annotation)}, and is not called. {ASKED}, and is annotated "
            f"so or not at all."
        )


def _called(factory: Any) -> Any:
    """The class or function that is called in the end, through `partial`, decorators, methods and callable objects."""
    while True:
        factory = inspect.unwrap(factory)
        if isinstance(factory, functools.partial):
            factory = factory.func
        elif isinstance(factory, MethodType):
            factory = factory.__func__
        elif isinstance(factory, type | FunctionType) or not isinstance(type(factory).__call__, FunctionType):
            return factory
        else:
            factory = type(factory).__call__


def _return_annotation(function: FunctionType) -> Any:
    """`Parameter.empty` where there is none, or a text that names what is imported for type checkers alone."""
    given = function.__annotations__.get("return", inspect.Parameter.empty)
    try:
        hints = typing.get_type_hints(SimpleNamespace(__annotations__={"return": given}), function.__globals__)
    except (NameError, AttributeError, SyntaxError, TypeError):
        return inspect.Parameter.empty if isinstance(given, str) else given
    return hints["return"]


def _may_be_module(annotation: Any) -> bool:
    """A module, or one of several things of which one is."""
    if isinstance(annotation, TypeVar):
        bounds = annotation.__constraints__ or (annotation.__bound__,)
        return any(bound is None or _may_be_module(bound) for bound in bounds)
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return issubclass(annotation, nn.Module)
    is_union = typing.get_origin(annotation) in UNIONS
    return is_union and any(_may_be_module(each) for each in typing.get_args(annotation))


UNIONS = (typing.Union, type(int | str))


def _named(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
