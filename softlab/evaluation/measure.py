"""Measure a model on a source, and against its teacher where a store holds what the teacher said about it."""

# Shape letters: B rows in a batch, C classes, M bins of confidence.

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from softlab.evaluation.metrics.calibration_error import (
    NUM_BINS,
    accuracy,
    calibration_sums,
    expected_calibration_error,
)
from softlab.evaluation.metrics.per_class import ClassFigures, class_figures, count_by_class
from softlab.labels.losses import jensen_shannon_loss, kl_rows
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.batches import BatchLoader
from softlab.loading.order import in_sequence

Forward = Callable[[Batch], Tensor]
"""From a batch to logits [B, C]; the model behind it is in eval mode."""

BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Means over the rows of a source; None where the source or the store can't tell.

    Divergences are in nats, with the teacher's tail shared equally; at temperature 1, or at the smallest stored one
    where that is higher. Mixed views have no one target to hit, and so no accuracy and no calibration error; under a
    sigmoid head there is no distribution over classes, and so no divergence and no calibration error.
    """

    rows: int
    accuracy: float | None
    """Share of rows with a known target whose largest logit is at it."""

    teacher_agreement: float | None
    """Share of rows whose largest logit is where the teacher's is."""

    teacher_kl: float | None
    """KL(teacher || model)."""

    teacher_jensen_shannon: float | None = None
    """KL(teacher || m) / 2 + KL(model || m) / 2 with m the mean of both (Lin 1991, equation 4.1): 0 to log 2."""

    teacher_accuracy: float | None = None
    """The teacher's own, on the same rows."""

    calibration_error: float | None = None
    """Expected calibration error, 0 to 1; see `expected_calibration_error`."""

    classes: tuple[ClassFigures, ...] | None = None
    """Class by class, where that was asked for and targets are known."""


@torch.inference_mode()
def evaluate(
    forwards: Mapping[str, Forward],
    loader: BatchLoader,
    *,
    batch_size: int = BATCH_SIZE,
    channels_last: bool = False,
    per_class: bool = False,
) -> dict[str, Evaluation]:
    """Run some models over every sample of a source, in one pass over it."""
    tallies = {name: Tally(loader.device, classes_of=loader.aligned if per_class else None) for name in forwards}
    for batch in loader.load(in_sequence(0, len(loader.aligned.source), batch_size=batch_size)):
        on_device = batch.to(loader.device, channels_last=channels_last)
        for name, forward in forwards.items():
            tallies[name].add(forward(on_device).float(), on_device)
    return {name: tally.evaluation() for name, tally in tallies.items()}


class Tally:
    """What one model's rows add up to, kept on its device, so that nothing waits for a GPU before the end."""

    def __init__(self, device: torch.device, *, classes_of: Aligned | None = None) -> None:
        """Classes are counted one by one where `classes_of` says what they are."""
        self._classes_of = classes_of
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._rows, self._has_teacher, self._is_softmax = 0, False, True
        self._teacher_hits_2 = torch.zeros(2, dtype=self._dtype, device=device)
        self._teacher_3 = torch.zeros(3, dtype=self._dtype, device=device)
        self._bins_M3 = torch.zeros(NUM_BINS, 3, dtype=self._dtype, device=device)
        self._classes_3C: Tensor | None = None

    def add(self, logits_BC: Tensor, batch: Batch) -> None:
        """A model's float32 logits of one batch, both on the device."""
        predicted_B = logits_BC.argmax(dim=1)
        self._rows += len(batch)
        if batch.targets_B is not None and batch.mixed is None:  # a mixed view has no one target to hit
            self._add_targets(logits_BC, predicted_B=predicted_B, targets_B=batch.targets_B)
            if batch.labels is not None:
                is_right_B = batch.labels.class_ids_BK[:, 0] == batch.targets_B
                self._teacher_hits_2 += torch.stack([is_right_B.sum(), (batch.targets_B >= 0).sum()])
        if batch.labels is not None:
            self._has_teacher, self._is_softmax = True, batch.labels.head == "softmax"
            self._teacher_3 += _against_teacher(logits_BC, batch.labels, predicted_B=predicted_B, dtype=self._dtype)

    def evaluation(self) -> Evaluation:
        """Of all rows so far."""
        agreement, kl, jensen_shannon = (self._teacher_3 / max(self._rows, 1)).tolist()
        hits, known = self._teacher_hits_2.tolist()
        has_divergence, bins_M3 = self._has_teacher and self._is_softmax, self._bins_M3.cpu()
        return Evaluation(
            rows=self._rows,
            accuracy=accuracy(bins_M3),
            teacher_agreement=agreement if self._has_teacher else None,
            teacher_kl=kl if has_divergence else None,
            teacher_jensen_shannon=jensen_shannon if has_divergence else None,
            teacher_accuracy=hits / known if known else None,
            calibration_error=expected_calibration_error(bins_M3) if self._is_softmax else None,
            classes=self._class_figures(),
        )

    def _add_targets(self, logits_BC: Tensor, *, predicted_B: Tensor, targets_B: Tensor) -> None:
        self._bins_M3 += calibration_sums(logits_BC, predicted_B=predicted_B, targets_B=targets_B, dtype=self._dtype)
        if self._classes_of is not None:
            num_classes = _num_classes(self._classes_of, num_outputs=logits_BC.shape[1])
            counts_3C = count_by_class(predicted_B, targets_B, num_classes=num_classes)
            self._classes_3C = counts_3C if self._classes_3C is None else self._classes_3C + counts_3C

    def _class_figures(self) -> tuple[ClassFigures, ...] | None:
        if self._classes_3C is None or self._classes_of is None:
            return None
        return class_figures(self._classes_3C, _class_names(self._classes_of))


def _against_teacher(logits_BC: Tensor, labels: SoftLabels, *, predicted_B: Tensor, dtype: torch.dtype) -> Tensor:
    """Summed over rows: agreements, KL, Jensen-Shannon; the divergences 0 under a sigmoid head."""
    agreed = (predicted_B == labels.class_ids_BK[:, 0]).sum().to(dtype)
    if labels.head == "sigmoid":
        return torch.stack([agreed, torch.zeros_like(agreed), torch.zeros_like(agreed)])
    temperature = max(1.0, labels.temperatures[0])
    kl = kl_rows(logits_BC, labels, temperature=temperature).to(dtype).sum()
    loss = jensen_shannon_loss(logits_BC, labels, temperature=temperature)  # T^2 times the mean
    return torch.stack([agreed, kl, loss.to(dtype) * (len(labels) / temperature**2)])


def _num_classes(aligned: Aligned, *, num_outputs: int) -> int:
    """Of the model, or of the targets where those name more."""
    targets_N = aligned.targets_N
    return num_outputs if targets_N is None else max(num_outputs, int(targets_N.max()) + 1)


def _class_names(aligned: Aligned) -> tuple[str, ...] | None:
    names = aligned.source.class_names
    return aligned.store.class_names if names is None and aligned.store is not None else names
