"""What is told once at the start of a run is not told again in each of its steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IS_TOLD: ContextVar[bool] = ContextVar("is_told", default=False)


def is_told() -> bool:
    """Whether somebody has already said what there is to say about the labels that are computed with."""
    return _IS_TOLD.get()


@contextmanager
def already_told() -> Iterator[None]:
    """In here nothing is said about labels."""
    token = _IS_TOLD.set(True)
    try:
        yield
    finally:
        _IS_TOLD.reset(token)
