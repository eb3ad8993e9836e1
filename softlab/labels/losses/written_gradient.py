"""Gradients that are written down instead of traced."""

import torch

from softlab.errors import InvalidOption


def refuse_another_derivative() -> None:
    """For the backward pass of such a loss. Raises InvalidOption where the gradient is to be differentiated again."""
    if torch.is_grad_enabled():
        raise InvalidOption(
            "this loss has its gradient written down, which can't be differentiated again. Use the mean of "
            "kl_rows, whose gradient is traced."
        )
