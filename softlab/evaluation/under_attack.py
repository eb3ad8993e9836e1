"""Measure a model on samples that are changed so that it errs."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption
from softlab.evaluation.attack import AttackOptions, attacked, check_bounds, uniform_start
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.robust_accuracy import RobustAccuracy
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses.hard import UNKNOWN_TARGET
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader
from softlab.loading.order import in_sequence
from softlab.modalities.inputs import Inputs
from softlab.modalities.modality import input_bounds

SECTION = "evaluate.robust"

START_SEED = 0
"""Of where attacks begin, so that a model is measured alike each time."""


def accuracy_under_attack(
    forward: Callable[[Batch], Tensor | LazyLogits],
    loader: BatchLoader,
    attack: AttackOptions,
    *,
    batch_size: int,
    channels_last: bool = False,
) -> float | None:
    """Share of the samples with a known target that a model is right about, although cross-entropy was raised on each
    of them from a random start (PGD). `forward` gives logits for the first of a batch's inputs, in eval mode; None
    where no target is known. Raises InvalidOption for data that can't be attacked."""
    input = loader.aligned.inputs[0]
    bounds = check_bounds(input_bounds(input), modality=input.modality, section=SECTION)
    metric, generator = RobustAccuracy(loader.device), torch.Generator().manual_seed(START_SEED)
    for batch in loader.load(in_sequence(0, len(loader.aligned.source), batch_size=batch_size)):
        own = batch.to(loader.device, channels_last=channels_last).for_input(0)
        targets_B, clean = _targets_of(own, loader), own.inputs[0].inputs

        def logits_of(inputs: Inputs, own: Batch = own) -> Tensor:
            found = forward(replace(own, inputs=(replace(own.inputs[0], inputs=inputs), *own.inputs[1:])))
            if isinstance(found, LazyLogits):
                raise InvalidOption(f"[{SECTION}]: logits of a large vocabulary can't be attacked. Leave it out.")
            return found.float()

        def loss_of(inputs: Inputs, targets_B: Tensor = targets_B) -> Tensor:
            return functional.cross_entropy(logits_of(inputs), targets_B, ignore_index=UNKNOWN_TARGET, reduction="sum")

        start = uniform_start(clean.positional[0], epsilon=attack.epsilon, generator=generator)
        changed = attacked(clean, loss_of, bounds=bounds, options=attack, start=start, section=SECTION)
        with torch.no_grad():
            logits_BC = logits_of(changed)
        metric.add(Outputs(logits_BC=logits_BC, predicted_B=logits_BC.argmax(dim=1)), own)
    return metric.value()


def _targets_of(batch: Batch, loader: BatchLoader) -> Tensor:
    if batch.targets_B is None or batch.mixed is not None:
        raise InvalidOption(
            f"[{SECTION}]: {loader.aligned.source.name} has no one hard target for each sample, by which an attack and "
            f"its success are told. Give a source that has them, or leave [{SECTION}] out."
        )
    return batch.targets_B
