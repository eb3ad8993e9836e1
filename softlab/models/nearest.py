"""The names closest to a misspelt one, for error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_names(name: str, known: Iterable[str], *, count: int = 3) -> str:
    """The `count` known names most like `name`, the most similar first: "`resnet18`, `resnet34`, `resnet50`"."""
    return ", ".join(f"`{match}`" for match in get_close_matches(name, list(known), n=count, cutoff=0.0))
