"""How surprised a language model is by the text."""

import math

import torch
from torch.nn import functional

from softlab.evaluation.metrics.mean import Mean
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import PERPLEXITY
from softlab.labels.losses.hard import UNKNOWN_TARGET
from softlab.loading.batch import Batch

LARGEST = 700.0
"""Nats, whose exp is a number still."""


class Perplexity:
    """exp of the mean cross-entropy of the text's own tokens, over those that have a row (Jelinek et al. 1977)."""

    name, label, column = "perplexity", "perplexity", "perplexity"
    unit, higher_is_better = PERPLEXITY, False
    needs: frozenset[Need] = frozenset({"targets", "logits", "vocabulary"})

    def __init__(self, device: torch.device) -> None:
        self._mean = Mean(device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        targets_B = batch.targets_B
        assert targets_B is not None
        losses_B = functional.cross_entropy(outputs.logits_BC, targets_B, ignore_index=UNKNOWN_TARGET, reduction="none")
        self._mean.add(losses_B, rows=(targets_B != UNKNOWN_TARGET).sum())

    def value(self) -> float | None:
        mean = self._mean.value()
        if mean is None:
            return None
        return math.exp(mean) if mean < LARGEST else math.inf
