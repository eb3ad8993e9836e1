"""Measure one model on its own, outside of training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from softlab.errors import InvalidOption, ModelError, check_option
from softlab.evaluation.attack import AttackOptions
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.measure import BATCH_SIZE, evaluate
from softlab.evaluation.metrics.robust_accuracy import RobustAccuracy
from softlab.evaluation.under_attack import accuracy_under_attack
from softlab.labels.joined_labels import finite_logits
from softlab.labels.lazy_logits import LazyLogits
from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.batch import Batch
from softlab.loading.label_check import classes_of_labels, label_note, stored_label_note, warn_of_labels
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.options import CheckOptions
from softlab.loading.order import in_sequence
from softlab.loading.teachers import find_values
from softlab.manifest import InputRecord
from softlab.modalities.inputs import Inputs
from softlab.modalities.modality import InputOptions, default_input, settle_input, tells_targets
from softlab.models.about import read_about
from softlab.models.device import DeviceOptions, choose_device, place
from softlab.models.one_output import OneOutput
from softlab.models.rows import logits_of, values_of
from softlab.sources.known_classes import with_known_classes
from softlab.sources.source import Source
from softlab.store.joined import join_outputs
from softlab.store.reader import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """How a model is measured."""

    batch_size: int = BATCH_SIZE
    """Samples in one forward pass."""

    per_class: bool = False
    """Also measure each class by itself."""

    head: str | None = None
    """Of a model that returns several outputs: the one that is measured, by its name."""

    prefix: int | None = None
    """Of a model that gives vectors: measure their first numbers alone, as if the embedding were cut there."""

    robust: AttackOptions | None = None
    """Also measure accuracy on samples that are changed so that the model errs (PGD): `robust_accuracy`. One forward
    and backward pass more for each step."""

    def __post_init__(self) -> None:
        check_option(self.prefix is None or self.prefix >= 1, "evaluate.prefix", self.prefix, "1 or more")
        check_option(self.batch_size >= 1, "evaluate.batch_size", self.batch_size, "1 or more")


def evaluate_model(
    module: nn.Module,
    source: Source,
    *,
    store: Store | None = None,
    output: str | None = None,
    input: InputOptions | None = None,
    options: EvaluateOptions | None = None,
    device: DeviceOptions | None = None,
    check: CheckOptions | None = None,
    class_names: Sequence[str] | Path | None = None,
) -> Evaluation:
    """Accuracy and calibration on a source, and with a store of the same samples how near it is to its teacher.

        evaluation = softlab.evaluate_model(model, source, store=store)
        accuracy = evaluation.values["accuracy"]

    `output` names an output of kind `values` that the model gives, as an embedding: then it is compared with that, and
    there is no accuracy but that of its neighbours. Of a store with several views the first is measured. `class_names`
    are the model's, in its order, or its weights, which tell them where softlab wrote them: hard targets are then
    aligned by name, as they are with a store's. Warns with OddLabels where that moves them, and where they count other
    classes than the model: then they are left aside, and there is no accuracy.

    Raises StoreMismatch if the store was made from other samples or views, or over other classes, and for a source
    with class names that the model hasn't; InvalidOption for weights that tell no names, and for an output that the
    store doesn't hold as values.
    """
    source = with_known_classes(source, _names_in(class_names), whose="the model")
    device = device or DeviceOptions()
    loader = open_inputs(
        source, store=store, input=input, device=device, check=check or CheckOptions(), values_output=output
    )
    return evaluate_on(loader, module, options or EvaluateOptions(), device)


def _names_in(given: Sequence[str] | Path | None) -> Sequence[str] | None:
    if isinstance(given, str):
        raise InvalidOption(f"class_names = {given!r}: expected a list of texts, or the model's weights as a Path.")
    if not isinstance(given, Path):
        return given
    about = read_about(given)
    if about is None or about.class_names is None:
        raise InvalidOption(
            f"{given}: doesn't tell what its classes are called. Give `class_names` as a list of texts."
        )
    return about.class_names


def open_inputs(
    source: Source,
    *,
    store: Store | None = None,
    input: InputOptions | None = None,
    device: DeviceOptions,
    check: CheckOptions,
    seen: tuple[InputRecord, ...] = (),
    values_output: str | None = None,
) -> BatchLoader:
    """What models are measured on; without a store decoded as in training, which `seen` tells. With `values_output`
    they give this output of the store, and no classes. Raises as `evaluate_model`."""
    inputs = (settle_input(input or default_input(), source),)
    aligned = Aligned(source=source, inputs=inputs, seen=seen, labels=check.labels)
    if store is not None and values_output is None:
        store = join_outputs(store, aligned.outputs)
    if store is not None:
        aligned = beside_store(
            source,
            store,
            inputs,
            subset=check.subset,
            verify=check.verify_inputs,
            check_pixels=check.views_mismatch == "refuse",
            labels=check.labels,
        )
        if values_output is None and aligned.labels == "other" and check.labels == "auto":
            warn_of_labels(stored_label_note(aligned.source, store, aligned.store_N))
    if values_output is not None:
        held = find_values(aligned.stores, values_output)
        aligned = replace(aligned, features=held, values_output=values_output)
    elif store is not None and not store.has_labels:
        raise InvalidOption(
            f"{store.name}: holds no classes to measure a model against, only values "
            f"({', '.join(store.feature_names)}). If the model gives such values, say `output = "
            f"{store.feature_names[0]}`, else leave `store` out."
        )
    return BatchLoader(aligned, device=choose_device(device.name), options=LoaderOptions(workers=device.workers))


def evaluate_on(loader: BatchLoader, module: nn.Module, options: EvaluateOptions, device: DeviceOptions) -> Evaluation:
    """One model's evaluation; it is left on the loader's device, in eval mode. Raises ModelError for outputs that are
    NaN or infinite."""
    module = module if options.head is None else OneOutput(module, options.head)
    module = place(module.eval(), loader.device, channels_last=device.channels_last)
    called: Callable[..., object] = torch.compile(module) if device.compile else module
    predicted: list[Tensor] = []
    num_classes, values_output = 0, loader.aligned.values_output
    if options.prefix is not None and values_output is None:
        raise InvalidOption(
            f"evaluate.prefix = {options.prefix}: the model is measured by its classes, which can't be cut. Name the "
            f"output of values that it gives as `output`, or leave `evaluate.prefix` out."
        )

    bad_rows = torch.zeros((), dtype=torch.int64, device=loader.device)

    def forward(batch: Batch) -> Tensor | LazyLogits:
        collated = batch.inputs[0]
        if values_output is not None:
            values = values_of(
                called, collated.inputs, name=values_output, device=loader.device, autocast=device.autocast
            )
            bad_rows.add_((~values.isfinite()).flatten(start_dim=1).any(dim=1).sum())
            return _cut(values, options.prefix)
        found = logits_of(
            called,
            collated.inputs,
            device=loader.device,
            autocast=device.autocast,
            counted=collated.units,
            joined=collated.outputs,
        ).rows
        if not collated.outputs or isinstance(found, LazyLogits):
            return found
        return finite_logits(found, batch.labels)

    def watch(logits_RC: Tensor) -> None:
        nonlocal num_classes
        num_classes = logits_RC.shape[1]
        predicted.append(logits_RC.argmax(dim=1))
        bad_rows.add_((logits_RC.isnan() | logits_RC.isposinf()).any(dim=1).sum())

    (evaluation,) = evaluate(
        {"model": forward},
        loader,
        batch_size=options.batch_size,
        channels_last=device.channels_last,
        per_class=options.per_class,
        compare_classes=loader.aligned.store is None,
        watch=watch if values_output is None else None,
    ).values()
    if bad_rows.item():
        raise ModelError(
            f"the model's outputs are NaN or infinite for {bad_rows.item():,} of {evaluation.rows:,} rows, so that no "
            f"figure would mean anything. Check its weights and inputs, or run with `device.autocast = none`."
        )
    if values_output is not None or any(map(tells_targets, loader.aligned.inputs)):
        if options.robust is not None:
            raise InvalidOption(
                "[evaluate.robust]: attacks are measured of models that give classes for whole samples. Leave it out."
            )
        return evaluation
    if _are_of_other_classes(loader.aligned, torch.cat(predicted), num_classes=num_classes):
        return evaluation.without_targets()
    if options.robust is None:
        return evaluation
    found = accuracy_under_attack(
        forward, loader, options.robust, batch_size=options.batch_size, channels_last=device.channels_last
    )
    return evaluation if found is None else evaluation.with_value(RobustAccuracy.name, found)


def _are_of_other_classes(aligned: Aligned, predicted_N: Tensor, *, num_classes: int) -> bool:
    """Whether hard targets turn out to be left aside, by the classes of a store, or else of the model. Warns with
    OddLabels. Mixed views, and samples of several rows, have no one target."""
    source, labels = aligned.source, aligned.labels
    if len(predicted_N) != len(source) or aligned.replay.mixes:
        return labels == "other"
    source_N, ours_N = np.arange(len(source)), predicted_N.cpu().numpy()
    warn_of_labels(label_note(source, source_N, ours_N, num_classes=num_classes, labels=labels))
    return classes_of_labels(source, source_N, ours_N, num_classes=num_classes, labels=labels) == "other"


def _cut(values: Tensor, prefix: int | None) -> Tensor:
    """The first numbers of each vector. Raises InvalidOption for more than there are."""
    if prefix is not None and (values.ndim != 2 or prefix > values.shape[1]):
        raise InvalidOption(
            f"evaluate.prefix = {prefix}: the model gives {list(values.shape[1:])} for a sample. Choose "
            f"`evaluate.prefix` up to the length of its vectors, or leave it out."
        )
    return values if prefix is None else values[:, :prefix]


def predict_classes(loader: BatchLoader, module: nn.Module, device: DeviceOptions) -> tuple[NDArray[np.int64], int]:
    """The largest class of each sample, int64 [N], and how many classes there are. The model is left in training mode,
    on the loader's device."""
    module = place(module.eval(), loader.device, channels_last=device.channels_last)
    predicted: list[Tensor] = []
    num_classes = 0
    with torch.inference_mode():
        for batch in loader.load(in_sequence(0, len(loader.aligned.source), batch_size=BATCH_SIZE)):
            collated = batch.to(loader.device, channels_last=device.channels_last).inputs[0]
            logits_BC = logits_of(
                module,
                collated.inputs,
                device=loader.device,
                autocast=device.autocast,
                counted=collated.units,
                joined=collated.outputs,
            ).rows
            assert isinstance(logits_BC, Tensor), "samples have hard targets of their own"
            num_classes = logits_BC.shape[1]
            predicted.append(logits_BC.argmax(dim=1).cpu())
    module.train()
    return torch.cat(predicted).numpy(), num_classes


def first_input(loader: BatchLoader, *, channels_last: bool) -> Inputs:
    """Of one sample, on the loader's device, as models are given it."""
    (rows,) = in_sequence(0, 1, batch_size=1)
    return loader.load_one(rows).to(loader.device, channels_last=channels_last).inputs[0].inputs
