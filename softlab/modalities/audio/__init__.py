"""Sound files as waveforms or log-mel spectrograms; the units, where a model has rows for them, are frames."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "MODALITY":  # made when it is asked for, as with images
        from softlab.modalities.audio.modality import MODALITY

        return MODALITY
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
