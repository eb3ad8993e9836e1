"""Losses over a large vocabulary, a chunk of rows at a time: the logits of all rows are never there at once.

Each chunk's logits, loss and gradients are computed in the forward pass, and its logits are gone before the next
chunk's are made. What is kept for the backward pass are the gradients of hidden states and output layer.
"""

# Shape letters: R rows, r of them in a chunk, D width of the hidden states, C classes.

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from softlab.labels.lazy_logits import LazyLogits, row_slices

LossOfRows = Callable[[Tensor, slice], Tensor]
"""From the logits [r, C] of some rows, and which rows these are, to a scalar."""


def chunked_loss(logits: LazyLogits, loss_of_rows: LossOfRows, *, rows: int | None = None) -> Tensor:
    """The sum of the chunks' losses, with the gradients that whole logits would have; of no row 0. `rows` are those of
    a chunk; default: about 64 MiB of logits. It can be differentiated once."""
    found: Tensor = _ChunkedLoss.apply(logits.hidden, logits.weight_CD, logits.bias_C, logits, loss_of_rows, rows)
    return found


class _ChunkedLoss(torch.autograd.Function):
    """A chunk's gradients follow from that of its products, so that those of the output layer are added up in place:
    autograd would make each of them whole before it adds it."""

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
        given = hidden_RD, weight_CD, bias_C
        wanted = ctx.needs_input_grad[: len(given)]
        sums = [_zeros(each) if is_wanted else None for each, is_wanted in zip(given, wanted, strict=True)]
        layer, total = logits.layer(), torch.zeros((), device=hidden_RD.device)
        for some in row_slices(logits.shape, rows=rows):
            loss, gradient_rC = _chunk(logits, layer, loss_of_rows, some, is_learnt=any(wanted))
            total = total + loss
            if gradient_rC is not None:
                _add(sums, gradient_rC, some, hidden_rD=hidden_RD[some], weight_CD=layer[0])
            del gradient_rC  # before the next one's logits are made
        gradients = (None if each is None else each.to(of.dtype) for each, of in zip(sums, given, strict=True))  # type: ignore[union-attr]
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if each is None else each * upstream[0].to(each.dtype) for each in ctx.saved_tensors)
        return (*gradients, None, None, None)


def _zeros(of: Tensor | None) -> Tensor | None:
    """float32 of half precision, in which a sum over many chunks would stand still."""
    return None if of is None else torch.zeros_like(of, dtype=torch.promote_types(of.dtype, torch.float32))


def _chunk(
    logits: LazyLogits,
    layer: tuple[Tensor, Tensor | None],
    loss_of_rows: LossOfRows,
    some: slice,
    *,
    is_learnt: bool,
) -> tuple[Tensor, Tensor | None]:
    """The loss of some rows, and its gradient to the products of hidden states and weight, [r, C]."""
    products_rC = functional.linear(logits.hidden[some], *layer).detach().requires_grad_(is_learnt)
    with torch.set_grad_enabled(is_learnt):
        loss = loss_of_rows(logits.finish(products_rC), some)
    if not loss.requires_grad:
        return loss.detach(), None
    (gradient_rC,) = torch.autograd.grad(loss, products_rC)
    return loss.detach(), gradient_rC


def _add(
    sums: Sequence[Tensor | None], gradient_rC: Tensor, some: slice, *, hidden_rD: Tensor, weight_CD: Tensor
) -> None:
    """To the gradients of hidden states, weight and bias. Of a padded vocabulary only the classes have one."""
    hidden_RD, of_weight_CD, of_bias_C = sums
    num_classes = gradient_rC.shape[1]
    with torch.autocast(gradient_rC.device.type, enabled=False):
        if hidden_RD is not None:
            hidden_RD[some] = gradient_rC @ weight_CD
        if of_weight_CD is not None and of_weight_CD.dtype == gradient_rC.dtype:
            of_weight_CD[:num_classes].addmm_(gradient_rC.T, hidden_rD)
        elif of_weight_CD is not None:
            of_weight_CD[:num_classes] += gradient_rC.T @ hidden_rD.to(gradient_rC.dtype)
        if of_bias_C is not None:
            of_bias_C[:num_classes] += gradient_rC.sum(dim=0)
