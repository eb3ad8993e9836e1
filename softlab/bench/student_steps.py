"""Training steps of one student that can be timed: on hard labels, on stored labels, and on stored features too.

The learner, the objective and the loader are those that train students.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.decoded import DECODED_BYTES, Decoded, DecodedSample
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices, ShuffledBatches
from softlab.modalities.inputs import Inputs
from softlab.modalities.modality import InputOptions, decode_sample, decoding_for, modality_of, tells_targets
from softlab.models.device import choose_device
from softlab.ranks import ALONE
from softlab.sources.source import Source, hard_targets
from softlab.store.reader import Store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.inputs import align_inputs
from softlab.student.learner import Learner
from softlab.student.learners import make_learners
from softlab.student.options import Student, TrainOptions

MIN_STEPS, MAX_STEPS = 4, 100

LabelKind = Literal["hard", "stored", "stored and features"]

FEATURE_AXES = (1, 2, 3)
"""The number of axes of a vector, of tokens and of a map, without the batch axis."""


class Steps:
    """A call makes the same number of training steps each time, and returns how many samples they took."""

    def __init__(
        self,
        learner: Learner,
        loader: BatchLoader,
        rows: Sequence[RowIndices],
        *,
        beside: Callable[[Batch], object] | None = None,
    ) -> None:
        """`beside` is called with each batch on the device before its step."""
        self._learner, self._loader, self._rows, self._beside = learner, loader, rows, beside

    def __call__(self) -> int:
        channels_last = self._learner.channels_last
        for step, batch in enumerate(self._loader.load(self._rows)):
            on_device = batch.to(self._loader.device, channels_last=channels_last)
            if self._beside is not None:
                self._beside(on_device)
            self._learner.step(on_device, step=step)
        self._learner.take_mean_loss(step=len(self._rows))  # waits for the device
        return sum(map(len, self._rows))


class StudentSteps:
    """All ways to train one student that are measured. Each way trains a copy of the module.

    All ways see the same batches of the same views. Samples are decoded in this process and kept in memory.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        source: Source,
        store: Store,
        options: TrainOptions,
        *,
        input: InputOptions,
        decoded: Decoded | None = None,
        turn_s: float = 1.0,
        make_loader: Callable[..., BatchLoader] = BatchLoader,
    ) -> None:
        """`decoded` may be shared by all who read the source. A turn has as many steps as fit into `turn_s` on hard
        labels, but at least MIN_STEPS and at most MAX_STEPS. `make_loader` is called as BatchLoader is. Raises as
        `train_students`, and InvalidOption for a source without hard targets."""
        _check_targets(source, input)
        self._name, self._module, self._store = name, module, store
        self._options = replace(options, distil=replace(options.distil, baseline=False))
        self._device = choose_device(options.device.name)
        data = align_inputs(source, [store], (input,), self._options, features=store.feature_names)
        self._aligned, self._decoded = data.aligned, decoded or Decoded(DECODED_BYTES)
        self._make_loader = make_loader
        self._order = ShuffledBatches(
            num_samples=_num_samples(source, input, options),
            batch_size=options.run.batch_size,
            epochs=MAX_STEPS,
            seed=options.run.seed,
            num_views=data.num_views,
            view_order=options.distil.view_order,
        )
        self._num_steps = self._choose_steps(turn_s)

    @property
    def batch_size(self) -> int:
        return min(self._order.batch_size, self._order.num_samples)

    def hard(self, *, beside: Callable[[Batch], object] | None = None) -> Steps:
        """Steps on plain hard labels; `beside` is called with each batch on the device before its step."""
        # Without its store the same views are replayed.
        loader = self._loader(replace(self._aligned, store=None, features={}))
        return Steps(self._hard_learner(loader), loader, self._rows(self._num_steps), beside=beside)

    def stored(self) -> Steps:
        """Steps on the store's labels, mixed with hard ones as the options say."""
        return self._on_stored({})

    def stored_and_features(self) -> tuple[Steps, dict[str, str]] | None:
        """Steps on the store's labels and features, and the student's layer that learns each feature.

        Features and layers are those of the options. Without any, it is the store's first feature with the layer of
        `find_layer`; None if the store has no feature or the student no such layer.
        """
        losses = self._options.learn.feature or self._find_feature()
        if not losses:
            return None
        return self._on_stored(losses), {name: loss.layer for name, loss in losses.items()}

    def _on_stored(self, losses: dict[str, FeatureLoss]) -> Steps:
        features = {name: self._aligned.features[name] for name in losses}
        loader = self._loader(replace(self._aligned, features=features))
        learner = self._learner(loader, losses, num_stores=1)
        return Steps(learner, loader, self._rows(self._num_steps))

    def _find_feature(self) -> dict[str, FeatureLoss]:
        if not self._store.feature_names:
            return {}
        name = self._store.feature_names[0]
        feature_shape = self._store.read_features(name, [0]).shape[1:]
        loader = self._loader(replace(self._aligned, store=None, features={}))
        (batch,) = loader.load(self._rows(1))
        inputs = batch.inputs[0].inputs.to(self._device)
        layer = find_layer(copy.deepcopy(self._module).to(self._device), inputs, feature_shape=feature_shape)
        return {} if layer is None else {name: FeatureLoss(layer=layer)}

    def _choose_steps(self, turn_s: float) -> int:
        """As many steps as fill a turn on hard labels. Checks first whether student and source fit."""
        loader = self._loader(replace(self._aligned, store=None, features={}))
        learner = self._hard_learner(loader)
        self._check_outputs(learner, loader)
        first = Steps(learner, loader, self._rows(2))
        first()
        start = time.perf_counter()
        first()
        per_step = (time.perf_counter() - start) / 2
        return min(max(math.ceil(turn_s / per_step), MIN_STEPS), MAX_STEPS)

    def _check_outputs(self, learner: Learner, loader: BatchLoader) -> None:
        (batch,) = loader.load(self._rows(1))
        on_device = batch.to(self._device, channels_last=self._options.device.channels_last)
        with torch.inference_mode():
            given = learner.evaluating()(on_device)
        assert not isinstance(given, Mapping), "it has one output"
        num_outputs = given.shape[1]
        targets_N = hard_targets(self._aligned.source)
        highest = -1 if targets_N is None else int(targets_N.max())
        if highest >= num_outputs:
            raise StoreMismatch(
                f"student {self._name} has {num_outputs} outputs, but {self._aligned.source.name} has hard targets up "
                f"to {highest}. Build the student with num_classes = {highest + 1} or more."
            )

    def _hard_learner(self, loader: BatchLoader) -> Learner:
        return self._learner(loader, {}, num_stores=0)

    def _learner(self, loader: BatchLoader, features: dict[str, FeatureLoss], *, num_stores: int) -> Learner:
        learn = replace(self._options.learn, feature=features)
        student = Student(module=copy.deepcopy(self._module), learn=learn)
        (learner,) = make_learners(
            {self._name: student}, self._options, self._order, loader, num_stores=num_stores, ranks=ALONE, plans={}
        )
        return learner

    def _loader(self, aligned: Aligned) -> BatchLoader:
        return self._make_loader(aligned, device=self._device, options=LoaderOptions(workers=0), decoded=self._decoded)

    def _rows(self, num_steps: int) -> list[RowIndices]:
        return list(islice(self._order, num_steps))


def _check_targets(source: Source, input: InputOptions) -> None:
    if hard_targets(source) is None and not tells_targets(input):
        raise InvalidOption(
            f"{source.name}: has no hard targets to measure plain steps with. Give a source that has them (of a "
            f"Parquet file, name their column with `source.label_column`)."
        )


def _num_samples(source: Source, input: InputOptions, options: TrainOptions) -> int:
    """How many samples are used: no more than fit into DECODED_BYTES once they are decoded."""
    sample = source.read(0)
    example = decode_sample(sample, decoding_for(modality_of(input), (input,)))
    one = DecodedSample(content_hash=sample.content_hash, examples={input.modality: example})
    most = DECODED_BYTES // max(one.nbytes, 1)
    wanted = min(options.run.max_samples or len(source), len(source), MAX_STEPS * options.run.batch_size)
    return max(min(wanted, most), 1)


def find_layer(module: nn.Module, inputs: Inputs, *, feature_shape: Sequence[int]) -> str | None:
    """A layer of a student that a stored feature can be compared with; None if there is none.

    It is the last layer before the logits whose output has the feature's positions, for example 7 x 7. Where there is
    none, it is the last one whose output has as many axes, but not for tokens, which must have the same positions.
    Good enough to measure what learning the feature costs. The module is left in eval mode.
    """
    shapes = _shapes_of_layers(module.eval(), inputs)
    *before, _ = shapes or {"": ()}  # the last layer gives the logits
    alike = [name for name in before if len(shapes[name]) == len(feature_shape) and len(feature_shape) in FEATURE_AXES]
    same = [name for name in alike if _positions(shapes[name]) == _positions(feature_shape)]
    if len(feature_shape) == 2:  # unlike maps, tokens of other positions can't be compared
        alike = same
    found = same or alike
    return found[-1] if found else None


def _shapes_of_layers(module: nn.Module, inputs: Inputs) -> dict[str, tuple[int, ...]]:
    """The shape of one sample's output, for each layer that has no layers inside; in the order of the forward pass."""
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            shapes.pop(name, None)
            shapes[name] = tuple(output.shape[1:])

    leaves = {name: layer for name, layer in module.named_modules() if name and not list(layer.children())}
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: record(name, output))
        for name, layer in leaves.items()
    ]
    try:
        with torch.inference_mode():
            module(*inputs.positional, **inputs.named)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _positions(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:] if len(shape) == 3 else shape[:-1])
