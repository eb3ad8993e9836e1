"""How a model of transformers computes its attention: ways differ in the last bits of what they give."""

from torch import nn

ATTENTION = "attn_implementation"
"""What the argument is called with which such a model is built."""


def attention_of(module: nn.Module) -> str | None:
    """The way that the model uses, as `sdpa`, whether it was asked for or chosen; None of one that doesn't tell."""
    found = getattr(getattr(module, "config", None), f"_{ATTENTION}", None)
    return found if isinstance(found, str) else None
