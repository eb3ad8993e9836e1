"""What the rows of one model add up to while it is measured; of one with several heads, head by head."""

# Shape letters: B rows in a batch, C classes.

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics import measurable
from softlab.evaluation.metrics.answers import OF_WHOLE_ANSWERS
from softlab.evaluation.metrics.metric import Metric, Outputs
from softlab.evaluation.metrics.needs import class_names_of, what_is_known
from softlab.evaluation.metrics.of_head import name_of
from softlab.evaluation.metrics.per_class import ClassCounts
from softlab.labels.lazy_logits import LazyLogits
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch

Given = Tensor | LazyLogits | Mapping[str, Tensor]
"""What a model gives for a batch: logits [B, C], or values [B, ...]; of one with several heads these of each."""


def _in_parts(given: Tensor | LazyLogits, batch: Batch) -> Iterator[tuple[Tensor, Batch]]:
    """Float32 logits, or values, and what belongs to them of the batch: of lazy ones some rows at a time."""
    if isinstance(given, LazyLogits):
        yield from ((logits_BC, batch.with_rows(rows)) for rows, logits_BC in given.chunks())
    else:
        yield given.float(), batch


class _OutputTally:
    """Of rows of several outputs in turn, what those of one of them add up to."""

    def __init__(self, aligned: Aligned, device: torch.device, *, place: int) -> None:
        self._rows = slice(place, None, len(aligned.outputs))
        self._metrics = [metric(device) for metric in measurable(aligned) if metric not in OF_WHOLE_ANSWERS]

    def add(self, outputs: Outputs, batch: Batch) -> None:
        own = replace(outputs, logits_BC=outputs.logits_BC[self._rows], predicted_B=outputs.predicted_B[self._rows])
        batch = batch.with_rows(self._rows)
        for metric in self._metrics:
            metric.add(own, batch)

    def values(self) -> dict[str, float]:
        return _finite(self._metrics)


class Tally:
    """What one model's rows add up to."""

    def __init__(self, aligned: Aligned, device: torch.device, *, per_class: bool) -> None:
        metrics, self._values_output = measurable(aligned), aligned.values_output
        self._class_names = class_names_of(aligned)
        self._rows, self._metrics = 0, [metric(device) for metric in metrics]
        has_targets = what_is_known(aligned) >= {"targets", "logits", "few classes"}
        self._classes = ClassCounts(aligned) if per_class and has_targets else None
        self._outputs = {name: _OutputTally(aligned, device, place=place) for place, name in enumerate(aligned.outputs)}

    def add(self, given: Given, batch: Batch, *, watch: Callable[[Tensor], None] | None = None) -> None:
        """One more batch. `watch` is called with its logits, or values, as they are measured."""
        assert not isinstance(given, Mapping), "of several heads each has a tally of its own"
        self._rows += len(batch)
        for logits_BC, part in _in_parts(given, batch):
            if watch is not None:
                watch(logits_BC)
            self._add(logits_BC, part)

    def _add(self, logits_BC: Tensor, batch: Batch) -> None:
        batch = _over_classes(batch, num_classes=logits_BC.shape[1])
        stored = None if self._values_output is None else batch.features.get(self._values_output)
        outputs = Outputs(
            logits_BC=logits_BC,
            predicted_B=logits_BC.argmax(dim=1),
            teacher_values=stored,
            class_names=self._class_names,
        )
        for metric in self._metrics:
            metric.add(outputs, batch)
        if self._classes is not None:
            self._classes.add(outputs, batch)
        for tally in self._outputs.values():
            tally.add(outputs, batch)

    def evaluation(self) -> Evaluation:
        return Evaluation(
            rows=self._rows,
            values=_finite(self._metrics),
            classes=None if self._classes is None else self._classes.value(),
            outputs={name: tally.values() for name, tally in self._outputs.items()} or None,
        )


class HeadsTally:
    """What the rows of a model with several heads add up to, head by head."""

    def __init__(self, heads: Mapping[str, Aligned], device: torch.device) -> None:
        self._heads = {name: Tally(aligned, device, per_class=False) for name, aligned in heads.items()}

    def add(self, given: Given, batch: Batch, *, watch: Callable[[Tensor], None] | None = None) -> None:
        """As `Tally.add`."""
        assert isinstance(given, Mapping), "a model with heads gives an output for each"
        for name, tally in self._heads.items():
            tally.add(given[name], batch.of_head(name), watch=watch)

    def evaluation(self) -> Evaluation:
        """The figures of all heads, `HEAD/METRIC` by name."""
        found = {name: tally.evaluation() for name, tally in self._heads.items()}
        values = {name_of(head, name): value for head, own in found.items() for name, value in own.values.items()}
        return Evaluation(rows=max(own.rows for own in found.values()), values=values)


def make_tally(aligned: Aligned, device: torch.device, *, per_class: bool) -> Tally | HeadsTally:
    """Of one model, by what it is compared with."""
    return HeadsTally(aligned.heads, device) if aligned.heads else Tally(aligned, device, per_class=per_class)


def _finite(metrics: Sequence[Metric]) -> dict[str, float]:
    """By name."""
    values = {metric.name: metric.value() for metric in metrics}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _over_classes(batch: Batch, *, num_classes: int) -> Batch:
    """With label sets over all classes of a model, of the last of which a data set without names may have no sample."""
    sets_BC = batch.label_sets_BC
    if sets_BC is None or sets_BC.shape[1] >= num_classes:
        return batch
    return replace(batch, label_sets_BC=functional.pad(sets_BC, (0, num_classes - sets_BC.shape[1])))
