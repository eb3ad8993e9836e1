"""Measure models on a source, and against their teacher where a store holds the teacher's output for it."""

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
from softlab.evaluation.metrics.per_class import ClassCounts
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.told import already_told
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader
from softlab.loading.order import in_sequence

Forward = Callable[[Batch], Tensor | LazyLogits]
"""From a batch to logits [B, C], or to values [B, ...]; the model behind it is in eval mode."""

BATCH_SIZE = 256


@torch.inference_mode()
def evaluate(
    forwards: Mapping[str, Forward],
    loader: BatchLoader,
    *,
    batch_size: int = BATCH_SIZE,
    channels_last: bool = False,
    per_class: bool = False,
    compare_classes: bool = False,
    input_of: Mapping[str, int] | None = None,
    watch: Callable[[Tensor], None] | None = None,
) -> dict[str, Evaluation]:
    """Run some models over every sample of a source, in one pass over it. With `compare_classes`, hard targets count
    only for models with as many outputs as the source has classes. `input_of` tells which of a batch's inputs is that
    of each model; the first one, where it isn't given. `watch` is called with all logits, or values, as they are
    measured."""
    tallies: dict[str, _Tally] = {}
    for batch in loader.load(in_sequence(0, len(loader.aligned.source), batch_size=batch_size)):
        on_device = batch.to(loader.device, channels_last=channels_last)
        for name, forward in forwards.items():
            own = on_device.for_input((input_of or {}).get(name, 0))
            given = forward(own)
            if name not in tallies:
                aligned = replace(loader.aligned, num_classes=given.shape[1]) if compare_classes else loader.aligned
                tallies[name] = _Tally(aligned, loader.device, per_class=per_class)
            tallies[name].count(own)
            for logits_BC, part in _in_parts(given, own):
                if watch is not None:
                    watch(logits_BC)
                with already_told():
                    tallies[name].add(logits_BC, part)
    return {name: tally.evaluation() for name, tally in tallies.items()}


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


class _Tally:
    """What one model's rows add up to."""

    def __init__(self, aligned: Aligned, device: torch.device, *, per_class: bool) -> None:
        metrics, self._values_output = measurable(aligned), aligned.values_output
        self._class_names = class_names_of(aligned)
        self._rows, self._metrics = 0, [metric(device) for metric in metrics]
        has_targets = what_is_known(aligned) >= {"targets", "logits", "few classes"}
        self._classes = ClassCounts(aligned) if per_class and has_targets else None
        self._outputs = {name: _OutputTally(aligned, device, place=place) for place, name in enumerate(aligned.outputs)}

    def count(self, batch: Batch) -> None:
        """The samples of one more batch, whose rows are added some at a time or all at once."""
        self._rows += len(batch)

    def add(self, logits_BC: Tensor, batch: Batch) -> None:
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
