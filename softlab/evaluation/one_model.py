"""Measure one model on its own, outside of training."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.measure import BATCH_SIZE, evaluate
from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.loading.sample_check import VerifyInputs
from softlab.modalities.inputs import Inputs
from softlab.modalities.modality import InputOptions, default_input
from softlab.models.device import choose_device, place
from softlab.models.rows import logits_of
from softlab.sources.source import Source
from softlab.store.reader import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """How a model is measured."""

    batch_size: int = BATCH_SIZE
    """Samples in one forward pass."""

    subset: bool = False
    """Accept a source that holds only some of the store's samples; they are found by key."""

    verify_inputs: VerifyInputs = "some"
    """Which samples must have the content hash that the store records: some at random, or all."""

    views_mismatch: Literal["refuse", "allow"] = "refuse"
    """Whether inputs may be other views than those the teacher saw."""

    workers: int | None = None
    """Processes that decode samples; default: 0 beside a CPU model, else up to 8."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    autocast: Literal["none", "bfloat16"] = "none"
    """Shorter dtype of the forward pass."""

    channels_last: bool = False
    """Run convolutions in channels-last memory order."""

    per_class: bool = False
    """Also measure each class by itself."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InvalidOption(f"batch_size = {self.batch_size}: expected 1 or more. Change --batch-size.")


def evaluate_model(
    module: nn.Module,
    source: Source,
    *,
    store: Store | None = None,
    input: InputOptions | None = None,
    options: EvaluateOptions | None = None,
) -> Evaluation:
    """Accuracy and calibration on a source, and with a store of the same samples how near it is to its teacher.

        evaluation = softlab.evaluate_model(model, source, store=store)
        accuracy = evaluation.values["accuracy"]

    Of a store with several views the first is measured. Raises StoreMismatch if the store was made from other samples
    or views, or over other classes.
    """
    options = options or EvaluateOptions()
    return evaluate_on(open_inputs(source, store=store, input=input, options=options), module, options)


def open_inputs(
    source: Source,
    *,
    store: Store | None = None,
    input: InputOptions | None = None,
    options: EvaluateOptions,
) -> BatchLoader:
    """What models are measured on. Raises as `evaluate_model`."""
    device = choose_device(options.device)
    inputs = (input or default_input(),)
    aligned = Aligned(source=source, inputs=inputs)
    if store is not None:
        aligned = beside_store(
            source,
            store,
            inputs,
            subset=options.subset,
            verify=options.verify_inputs,
            check_pixels=options.views_mismatch == "refuse",
        )
    return BatchLoader(aligned, device=device, options=LoaderOptions(workers=options.workers))


def evaluate_on(loader: BatchLoader, module: nn.Module, options: EvaluateOptions) -> Evaluation:
    """One model's evaluation; it is left on the loader's device, in eval mode."""
    module = place(module.eval(), loader.device, channels_last=options.channels_last)

    def forward(batch: Batch) -> Tensor:
        collated = batch.inputs[0]
        return logits_of(
            module, collated.inputs, device=loader.device, autocast=options.autocast, counted=collated.units
        ).rows

    (evaluation,) = evaluate(
        {"model": forward},
        loader,
        batch_size=options.batch_size,
        channels_last=options.channels_last,
        per_class=options.per_class,
    ).values()
    return evaluation


def first_input(loader: BatchLoader, options: EvaluateOptions) -> Inputs:
    """Of one sample, on the loader's device, as models are given it."""
    (batch,) = loader.load(in_sequence(0, 1, batch_size=1))
    return batch.to(loader.device, channels_last=options.channels_last).inputs[0].inputs
