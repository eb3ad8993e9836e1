"""What keeping K of C classes costs: the probability outside, and the error of a tail that is shared equally."""

# Shape letters: N rows, C classes, K entries kept (K <= C), T temperatures.

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from softlab.labels.soft_labels import Head


def truncation(logits_NC: Tensor, *, temperatures: Sequence[float], head: Head = "softmax") -> tuple[Tensor, Tensor]:
    """For every K from 1 to C: the mean captured mass and the mean KL error in nats, float64 [C, T] each.

    With tail mass m, KL(teacher || stored) is the sum of p log p over the tail, less m log(m / (C - K)): what is
    kept is exact, and the stored tail is uniform. Under a sigmoid head the same holds for the p of the classes outside,
    which sum to m, and once more for their 1 - p; the error is the sum of both over C.
    """
    ranked_NC = logits_NC.double().sort(dim=1, descending=True).values
    num_classes = ranked_NC.shape[1]
    masses, divergences = [], []
    for temperature in temperatures:
        scaled_NC = ranked_NC / temperature
        if head == "sigmoid":
            share_NC = functional.logsigmoid(scaled_NC).softmax(dim=1)
            error_NK = _error_of_uniform(scaled_NC.sigmoid()) + _error_of_uniform((-scaled_NC).sigmoid())
            error_NK /= num_classes
        else:
            share_NC = scaled_NC.softmax(dim=1)
            error_NK = _error_of_uniform(share_NC)
        masses.append(1 - _sum_after(share_NC).mean(dim=0))
        divergences.append(error_NK.clamp(min=0).mean(dim=0))
    return torch.stack(masses, dim=1), torch.stack(divergences, dim=1)


def _error_of_uniform(probability_NC: Tensor) -> Tensor:
    """Column K-1 is the sum of p log(p / mean p) over the columns from K on."""
    num_tail_K = torch.arange(probability_NC.shape[1] - 1, -1, -1, dtype=torch.float64)
    tail_NK = _sum_after(probability_NC)
    within_NK = _sum_after(torch.xlogy(probability_NC, probability_NC))
    return within_NK - torch.xlogy(tail_NK, tail_NK / num_tail_K.clamp(min=1))


def _sum_after(values_NC: Tensor) -> Tensor:
    """Column K-1 is the sum of the columns from K on: what lies outside the first K."""
    from_here_NC = values_NC.flip(1).cumsum(dim=1).flip(1)
    return from_here_NC - values_NC
