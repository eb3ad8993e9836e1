"""How good a model is at each class."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import class_names_of
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFigures:
    """One class, over the rows whose target is known."""

    name: str
    """Its number where classes have no names."""

    samples: int
    """Rows whose target it is."""

    predicted: int
    """Rows whose largest logit is at it."""

    correct: int
    """Rows that are both."""

    recall: float | None
    """correct / samples, the accuracy within the class; None without samples."""

    precision: float | None
    """correct / predicted; None where it is never predicted."""


class ClassCounts:
    """Counts the classes of one model's rows, on the device. Needs hard targets."""

    def __init__(self, aligned: Aligned) -> None:
        targets_N = aligned.known_targets()
        assert targets_N is not None
        self._aligned, self._highest = aligned, int(targets_N.max())
        self._counts_3C: Tensor | None = None

    def add(self, outputs: Outputs, batch: Batch) -> None:
        """One more batch, on the device."""
        assert batch.targets_B is not None
        num_classes = max(outputs.logits_BC.shape[1], self._highest + 1)
        counts_3C = count_by_class(outputs.predicted_B, batch.targets_B, num_classes=num_classes)
        self._counts_3C = counts_3C if self._counts_3C is None else self._counts_3C + counts_3C

    def value(self) -> tuple[ClassFigures, ...]:
        """Of the model's classes, or of the targets' where those are more."""
        return () if self._counts_3C is None else class_figures(self._counts_3C, class_names_of(self._aligned))


class CountsOfClasses:
    """Samples, predicted and correct of each class of one model, over rows that come in batches, on the device. Targets
    that the model has no class for are those of one more class."""

    def __init__(self) -> None:
        self.counts_3C: Tensor | None = None
        """int64; None without rows."""

    def add(self, outputs: Outputs, batch: Batch) -> None:
        """One more batch, on the device."""
        assert batch.targets_B is not None
        others = outputs.logits_BC.shape[1]
        targets_B = batch.targets_B.clamp(max=others)
        counts_3C = count_by_class(outputs.predicted_B, targets_B, num_classes=others + 1)
        self.counts_3C = counts_3C if self.counts_3C is None else self.counts_3C + counts_3C


def count_by_class(predicted_B: Tensor, targets_B: Tensor, *, num_classes: int) -> Tensor:
    """int64 [3, C]: samples, predicted and correct of each class. The counts of two batches are added."""
    is_known_B = targets_B >= 0
    classes_3B = torch.stack([targets_B, predicted_B, targets_B]).clamp(min=0)
    counted_3B = torch.stack([is_known_B, is_known_B, predicted_B == targets_B]).long()
    return counted_3B.new_zeros(3, num_classes).scatter_add_(1, classes_3B, counted_3B)


def class_figures(counts_3C: Tensor, names: Sequence[str] | None) -> tuple[ClassFigures, ...]:
    """In the order of class numbers."""
    columns = zip(*counts_3C.tolist(), strict=True)
    return tuple(
        ClassFigures(
            name=names[number] if names is not None and number < len(names) else str(number),
            samples=samples,
            predicted=predicted,
            correct=correct,
            recall=correct / samples if samples else None,
            precision=correct / predicted if predicted else None,
        )
        for number, (samples, predicted, correct) in enumerate(columns)
    )
