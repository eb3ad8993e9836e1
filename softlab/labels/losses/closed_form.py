"""Losses whose gradient in the student's logits is written down instead of traced.

A weighted sum of them is one node for autograd. On 128 rows of 10 classes the number of operations is what costs.
"""

# Shape letters: B rows in a batch, C classes.

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FEW_CLASSES = 64
"""Up to here a CPU takes a softmax over the rows of a transposed copy 4 times as fast (128 x 10), as only the inner
axis is vectorised; at 1,000 classes the copy costs more than it saves."""


class ClosedForm(NamedTuple):
    """A loss, its weight already in it."""

    value: Tensor
    """A scalar."""

    gradient_BC: Tensor
    """In the student's logits."""


def attach(student_BC: Tensor, *terms: ClosedForm) -> Tensor:
    """The sum of some losses of the same logits, a scalar that passes on the sum of their gradients, once."""
    value, gradient_BC = terms[0]
    for term in terms[1:]:
        value, gradient_BC = value + term.value, gradient_BC + term.gradient_BC
    loss: Tensor = _Attached.apply(student_BC, value, gradient_BC)
    return loss


def log_softmax_rows(logits_BC: Tensor) -> Tensor:
    """log softmax over the classes; the result's memory may be transposed."""
    if logits_BC.shape[1] <= FEW_CLASSES and logits_BC.device.type == "cpu":
        return logits_BC.t().contiguous().log_softmax(dim=0).t()
    return logits_BC.log_softmax(dim=1)


class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student_BC: Tensor, value: Tensor, gradient_BC: Tensor) -> Tensor:
        ctx.save_for_backward(gradient_BC)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (gradient_BC,) = ctx.saved_tensors
        return gradient_BC * gradient, None, None
