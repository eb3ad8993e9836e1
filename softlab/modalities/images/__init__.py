"""Images, encoded or as pixels; their views are torchvision's transforms, MixUp and CutMix."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "MODALITY":  # made when it is asked for, so that a reference model is built without torchvision
        from softlab.modalities.images.modality import MODALITY

        return MODALITY
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
