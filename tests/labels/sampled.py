"""Sampled rows for tests, and the systematic draw written as plain loops."""

# Shape letters: R rows, C classes, K entries.

import math

import torch
from torch import Tensor

from softlab.labels.draws import uniforms
from softlab.labels.sampling import keep_sampled
from softlab.labels.soft_labels import SoftLabels


def make_logits(rows: int = 40, *, num_classes: int = 500, scale: float = 3.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(rows, num_classes, generator=torch.Generator().manual_seed(seed))


def make_uniforms(rows: int, *, seed: int = 0) -> Tensor:
    return uniforms(seed, view=0, samples_R=torch.zeros(rows, dtype=torch.int64), units_R=torch.arange(rows))


def sample(logits_RC: Tensor, *, resolution: int = 16, seed: int = 0) -> SoftLabels:
    return keep_sampled(logits_RC, resolution=resolution, uniforms_R2=make_uniforms(len(logits_RC), seed=seed))


def weights_of(labels: SoftLabels) -> Tensor:
    """float64 [R, K]."""
    return (labels.logits_BK.double() + labels.max_logit_B[:, None].double()).exp()


def dense_weights(labels: SoftLabels) -> Tensor:
    """float64 [R, C], what each class weighs."""
    dense_RC = torch.zeros(len(labels), labels.num_classes, dtype=torch.float64)
    return dense_RC.scatter_add(1, labels.class_ids_BK, weights_of(labels))


def systematic(logits: list[float], *, resolution: int, uniform: float, other: float) -> list[tuple[int, float]]:
    """Classes and weights of one row in the order of their entries, in float64 and one class after the other."""
    largest = max(logits)
    total = math.fsum(math.exp(logit - largest) for logit in logits)
    p = [math.exp(logit - largest) / total for logit in logits]
    by_size = sorted(range(len(p)), key=lambda c: (-logits[c], c))
    head = [c for c in by_size if p[c] >= 1 / resolution] or by_size[:1]
    tail = [c for c in range(len(p)) if c not in head]
    mass = math.fsum(p[c] for c in tail)
    entries = [(c, p[c]) for c in head]
    if mass < 1 / (16 * resolution):
        count, weight = int(other < mass * 16 * resolution), 1 / (16 * resolution)
    else:
        count = math.ceil(mass * resolution)
        weight = mass / count
    marks = [(j + uniform) / count * mass for j in range(count)]
    reached = 0.0
    for c in tail:
        reached += p[c]
        while marks and marks[0] < reached:
            entries.append((c, weight))
            marks.pop(0)
    return entries
