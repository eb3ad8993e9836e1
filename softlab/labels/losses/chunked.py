"""Losses over a large vocabulary, a chunk of rows at a time: the logits of all rows are never there at once.

Each chunk's logits, loss and gradients are computed in the forward pass, and its logits are gone before the next
chunk's are made. What is kept for the backward pass are the gradients of hidden states and output layer.
"""

# Shape letters: R rows, r of them in a chunk, D width of the hidden states, C classes.

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from softlab.labels.lazy_logits import LazyLogits, row_slices

LossOfRows = Callable[[Tensor, slice], Tensor]
"""From the logits [r, C] of some rows, and which rows these are, to a scalar."""


def chunked_loss(logits: LazyLogits, loss_of_rows: LossOfRows, *, rows: int | None = None) -> Tensor:
    """The sum of the chunks' losses, with the gradients that whole logits would have; of no row 0. `rows` are those of
    a chunk; default: about 64 MiB of logits. It can be differentiated once."""
    found: Tensor = _ChunkedLoss.apply(logits.hidden, logits.weight_CD, logits.bias_C, logits, loss_of_rows, rows)
    return found


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_RD: Tensor,
        weight_CD: Tensor,
        bias_C: Tensor | None,
        logits: LazyLogits,
        loss_of_rows: LossOfRows,
        rows: int | None,
    ) -> Tensor:
        wanted = ctx.needs_input_grad
        hidden, weight, bias = (
            None if each is None else each.detach().requires_grad_(wanted[place])
            for place, each in enumerate((hidden_RD, weight_CD, bias_C))
        )
        assert hidden is not None, "it is given"
        assert weight is not None, "it is given"
        leaves = replace(logits, hidden=hidden, weight_CD=weight, bias_C=bias)
        total = torch.zeros((), device=hidden.device)
        with torch.set_grad_enabled(any(wanted)):
            for some in row_slices(logits.shape, rows=rows):
                loss = loss_of_rows(leaves[some].whole(), some)
                if loss.requires_grad:
                    loss.backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
        ctx.save_for_backward(*map(_gradient_of, (hidden, weight, bias)))
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if each is None else each * upstream[0].to(each.dtype) for each in ctx.saved_tensors)
        return (*gradients, None, None, None)


def _gradient_of(leaf: Tensor | None) -> Tensor | None:
    """None where nobody asks."""
    if leaf is None or not leaf.requires_grad:
        return None
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
