"""What a metric is: one figure of how good a model is, added up batch by batch."""

# Shape letters: B rows in a batch, C classes.

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import Unit
from softlab.loading.batch import Batch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outputs:
    """What a model gives for a batch, on its device."""

    logits_BC: Tensor
    """float32; of a model that gives values, these, [B, ...]."""

    predicted_B: Tensor
    """int64, where each row's largest logit is; of values it says nothing."""

    teacher_values: Tensor | None = None
    """float32 [B, ...], what a store holds of the output that a model of values gives."""

    class_names: tuple[str, ...] | None = None
    """As hard targets count classes."""


class Metric(Protocol):
    """A figure with a name. What describes it is the same for all objects of a class; an object adds up the rows of one
    model. Its sums stay on the device, and only `value` waits for it."""

    name: str
    """In files, curves and options."""

    label: str
    """As a person reads it."""

    column: str
    """The same in one word, over a column of a table."""

    unit: Unit
    higher_is_better: bool
    needs: frozenset[Need]
    """It is measured only where all of this is known, and `add` may rely on it."""

    def __init__(self, device: torch.device) -> None: ...

    def add(self, outputs: Outputs, batch: Batch) -> None:
        """One more batch, on the device."""
        ...

    def value(self) -> float | None:
        """Of all batches so far; None without a row that counts."""
        ...
