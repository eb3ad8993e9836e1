"""Texts, single or in pairs, as token ids; each model has its own tokenizer."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "MODALITY":  # made when it is asked for, as with images
        from softlab.modalities.text.modality import MODALITY

        return MODALITY
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
