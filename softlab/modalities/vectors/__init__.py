"""Rows of tables and windows of sensors: numbers that statistics of a source make comparable, and categories."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "MODALITY":  # made when it is asked for, as with images
        from softlab.modalities.vectors.modality import MODALITY

        return MODALITY
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
