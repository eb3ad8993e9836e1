"""What a coding costs, and the step of the uint8 coding that a teacher's logits ask for."""

# Shape letters: B rows, K entries kept.

import torch
from torch import Tensor
from torch.nn import functional

from softlab.labels.coding import LabelCoding
from softlab.labels.soft_labels import SoftLabels

STEPS = (1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
"""Nats. Powers of two, so that logits on steps are exact in float16 and float32."""

MAX_COST = 8e-5
"""Nats a row, where keeping 16 of 1,000 classes without their tail costs 0.09. Rows that are a little harder than those
that were looked at then still cost less than 1e-4."""


def choose_gap_step(labels: SoftLabels) -> float:
    """The largest step, in nats, that costs these rows at most 8e-5 nats in the mean at each of their temperatures; the
    cheapest one where none does. A clipped gap counts as what it costs."""
    labels = labels.to("cpu")
    costs = {step: _highest_cost(labels, step) for step in STEPS}
    return next((step for step in STEPS if costs[step] <= MAX_COST), min(STEPS, key=costs.__getitem__))


def coding_cost(exact: SoftLabels, stored: SoftLabels, *, temperature: float) -> Tensor:
    """KL(exact || stored) of each row at a temperature, in nats, float64 [B].

    Under a softmax head of the distributions over the kept classes and all others together. Under a sigmoid head the
    sum of the Bernoulli divergences of the kept classes, and of the mean probability of each class not kept.
    """
    divergence = _of_sigmoids if exact.head == "sigmoid" else _of_softmax
    return divergence(exact, stored, temperature)


def coding_shift(exact: SoftLabels, stored: SoftLabels, *, temperature: float) -> Tensor:
    """By how much a loss's value moves in each row at a temperature, in nats, float64 [B]: that of KL(teacher ||
    student) of a student that gives all classes alike.

    `coding_cost` is of second order in what the coding rounds, because it is 0 and flat where nothing is rounded. The
    value of a loss isn't flat there, so it moves by far more; its mean over many rows moves by less, as the roundings
    of different rows don't agree. Under a sigmoid head the sum over classes, of a student that gives each one half.
    """
    value = _negentropy_of_sigmoids if exact.head == "sigmoid" else _negentropy
    return (value(stored, temperature) - value(exact, temperature)).abs()


def _negentropy(labels: SoftLabels, temperature: float) -> Tensor:
    """The sum of p log p, the tail shared equally."""
    log_p_BR = _with_tail(labels, temperature)
    log_share_B = log_p_BR[:, -1] - labels.num_tail_B.double().clamp(min=1).log()
    log_each_BR = torch.cat([log_p_BR[:, :-1], log_share_B[:, None]], dim=1)
    return (log_p_BR.exp() * log_each_BR).nan_to_num().sum(dim=1)


def _negentropy_of_sigmoids(labels: SoftLabels, temperature: float) -> Tensor:
    log_p_BK = functional.logsigmoid(_raw(labels) / temperature)
    value_B = _binary_negentropy(log_p_BK).sum(dim=1)
    num_tail = labels.num_classes - labels.k
    if num_tail == 0:
        return value_B
    return value_B + num_tail * _binary_negentropy(labels.log_tail_at(temperature).double())


def _binary_negentropy(log_p: Tensor) -> Tensor:
    p = log_p.exp()
    return torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)


def _highest_cost(labels: SoftLabels, step: float) -> float:
    coding = LabelCoding(
        coding="uint8",
        gap_step=step,
        num_classes=labels.num_classes,
        temperatures=labels.temperatures,
        head=labels.head,
        has_valid=labels.valid_B is not None,
        masked=labels.valid_bits_BW is not None,
    )
    stored = coding.decode(coding.encode(labels))
    costs = [coding_cost(labels, stored, temperature=temperature).mean().item() for temperature in labels.temperatures]
    return max(costs)


def _of_softmax(exact: SoftLabels, stored: SoftLabels, temperature: float) -> Tensor:
    log_p_BR, log_q_BR = _with_tail(exact, temperature), _with_tail(stored, temperature)
    return functional.kl_div(log_q_BR, log_p_BR, log_target=True, reduction="none").nan_to_num().sum(dim=1)


def _with_tail(labels: SoftLabels, temperature: float) -> Tensor:
    """Log-probabilities of the kept classes and, last, of all others, float64."""
    log_tail_B1 = labels.log_tail_at(temperature).double()[:, None]
    log_head_BK = (labels.logits_BK.double() / temperature).log_softmax(dim=1)
    return torch.cat([log_head_BK + torch.log(-torch.expm1(log_tail_B1)), log_tail_B1], dim=1)


def _of_sigmoids(exact: SoftLabels, stored: SoftLabels, temperature: float) -> Tensor:
    ours_BK, theirs_BK = _raw(exact) / temperature, _raw(stored) / temperature
    cost_B = _bernoulli(functional.logsigmoid(ours_BK), functional.logsigmoid(theirs_BK)).sum(dim=1)
    num_tail = exact.num_classes - exact.k
    if num_tail == 0:
        return cost_B
    log_p_B, log_q_B = exact.log_tail_at(temperature).double(), stored.log_tail_at(temperature).double()
    return cost_B + num_tail * _bernoulli(log_p_B, log_q_B)


def _raw(labels: SoftLabels) -> Tensor:
    return labels.logits_BK.double() + labels.max_logit_B.double()[:, None]


def _bernoulli(log_p: Tensor, log_q: Tensor) -> Tensor:
    p = log_p.exp()
    log_not_p, log_not_q = torch.log(-torch.expm1(log_p)), torch.log(-torch.expm1(log_q))
    return p * (log_p - log_q) + ((1 - p) * (log_not_p - log_not_q)).where(p < 1, 0.0)
