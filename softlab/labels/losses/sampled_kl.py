"""Cross-entropy of a student with an unbiased sample of each row's classes: all that a sample is for."""

# Shape letters: B rows in a batch, C classes, K entries.

from typing import Any

import torch
from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses.checks import Tail
from softlab.labels.losses.written_gradient import refuse_another_derivative
from softlab.labels.soft_labels import SoftLabels


def sampled_kl(student_BC: Tensor, labels: SoftLabels) -> Tensor:
    """Mean of `sampled_kl_rows`, with its gradient written down, which makes one [B, C] and no other."""
    loss: Tensor = _SampledCrossEntropy.apply(student_BC, labels.class_ids_BK, _weights(labels))
    return loss - _entropy(labels).mean()


def sampled_kl_rows(student_BC: Tensor, labels: SoftLabels) -> Tensor:
    """sum over entries of weight * (-log softmax(student)) - the teacher's entropy, float32 [B], in nats.

    Its expectation over samples is KL(teacher || student), and that of its gradient is the gradient of that. Of one
    sample it may be negative.
    """
    log_q_BK = student_BC.gather(1, labels.class_ids_BK) - student_BC.logsumexp(dim=1, keepdim=True)
    return _cross_entropy(_weights(labels), log_q_BK) - _entropy(labels)


def check_sampled(*, temperature: float, tail: Tail) -> None:
    """Raises StoreMismatch for a temperature other than 1, InvalidOption for a tail: a sample has none."""
    if temperature != 1:
        raise StoreMismatch(
            f"temperature {temperature:g}: these labels are samples of a teacher's classes, drawn by their probability "
            f"at temperature 1. Train with `loss.temperature = 1`, or dump the largest ones, with "
            f"`dump.selection = topk`."
        )
    if tail != "uniform":
        raise InvalidOption(
            f"loss.tail = {tail}: these labels are samples of a teacher's classes, which have no tail. Leave "
            f"`loss.tail` out."
        )


def _weights(labels: SoftLabels) -> Tensor:
    return (labels.logits_BK + labels.max_logit_B[:, None]).exp()


def _entropy(labels: SoftLabels) -> Tensor:
    assert labels.entropy_B is not None, "labels that are sampled"
    return labels.entropy_B


def _cross_entropy(weights_BK: Tensor, log_q_BK: Tensor) -> Tensor:
    """Fill weighs nothing, even where a student is sure that its class isn't."""
    return -(weights_BK * log_q_BK).masked_fill(weights_BK == 0, 0.0).sum(dim=1)


class _SampledCrossEntropy(torch.autograd.Function):
    """The mean over rows. Its gradient in a row is softmax(student) * (sum of weights) less the weights."""

    @staticmethod
    def forward(ctx: Any, student_BC: Tensor, class_ids_BK: Tensor, weights_BK: Tensor) -> Tensor:
        log_sum_B1 = student_BC.logsumexp(dim=1, keepdim=True)
        ctx.save_for_backward(student_BC, log_sum_B1, class_ids_BK, weights_BK)
        return _cross_entropy(weights_BK, student_BC.gather(1, class_ids_BK) - log_sum_B1).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        refuse_another_derivative()
        student_BC, log_sum_B1, class_ids_BK, weights_BK = ctx.saved_tensors
        weights_BK = weights_BK.to(student_BC.dtype) * (gradient / len(student_BC))
        gradient_BC = (student_BC - log_sum_B1).exp_().mul_(weights_BK.sum(dim=1, keepdim=True))
        return gradient_BC.scatter_add_(1, class_ids_BK, -weights_BK), None, None
