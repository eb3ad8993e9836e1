"""Measure models on a source, and against their teacher where a store holds the teacher's output for it."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.tally import Given, HeadsTally, Tally, make_tally
from softlab.labels.told import already_told
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader
from softlab.loading.order import in_sequence

Forward = Callable[[Batch], Given]
"""From a batch to logits [B, C], or to values [B, ...]; of a model with several heads to these of each, by name. The
model behind it is in eval mode."""

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
    tallies: dict[str, Tally | HeadsTally] = {}
    for batch in loader.load(in_sequence(0, len(loader.aligned.source), batch_size=batch_size)):
        on_device = batch.to(loader.device, channels_last=channels_last)
        for name, forward in forwards.items():
            own = on_device.for_input((input_of or {}).get(name, 0))
            given = forward(own)
            if name not in tallies:
                num_classes = given.shape[1] if compare_classes and not isinstance(given, Mapping) else None
                aligned = loader.aligned if num_classes is None else replace(loader.aligned, num_classes=num_classes)
                tallies[name] = make_tally(aligned, loader.device, per_class=per_class)
            with already_told():
                tallies[name].add(given, own, watch=watch)
    return {name: tally.evaluation() for name, tally in tallies.items()}
