"""Documents and chats as causal language models read them: the unit is a token, and its row tells the one behind it."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "MODALITY":  # made when it is asked for, as with images
        from softlab.modalities.tokens.modality import MODALITY

        return MODALITY
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
