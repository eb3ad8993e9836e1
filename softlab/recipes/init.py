"""First recipes for a user's own data: source, model and store are looked at, and what is found is filled in."""

# Shape letters: C channels.

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from softlab.amounts import format_count
from softlab.errors import ModelError
from softlab.loading.order import spread_out
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.known_inputs import known_input
from softlab.modalities.modality import DEFAULT_MODALITY, decode_sample, find_modality
from softlab.modalities.opening import open_source
from softlab.models.build import ModelOptions, build_model
from softlab.recipes.draft import Draft
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.teacher import TeacherRecipe
from softlab.recipes.train import TrainRecipe
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source, hard_targets
from softlab.store.reader import Store, open_store
from softlab.teacher.options import default_k

LOOKED_AT = 64
"""Samples that are decoded to see what they are."""

MANY_CLASSES = 100
"""From here on the largest logits hold little of the probability at a high temperature."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """What some images of a source are like."""

    sizes: tuple[tuple[int, int], ...]
    """Height and width, each pair once."""

    num_channels: tuple[int, ...]
    mean: tuple[float, ...]
    """Of pixels in 0..1, one value a channel."""

    std: tuple[float, ...]

    @property
    def in_words(self) -> str:
        (height, width), *others = self.sizes
        sizes = f"{height} x {width}" if not others else f"{len(self.sizes)} sizes"
        return f"{LOOKED_AT} looked at: {sizes}, {' and '.join(map(str, self.num_channels))} channels"


def dump_draft(source: str, *, teacher: str, weights: str | None, out: str) -> str:
    """A recipe for `softlab dump-teacher`. Raises as `open_source`, and where samples can't be decoded."""
    opened = open_source(SourceOptions(path=source))
    draft = Draft(
        DumpRecipe, title="What a teacher says about a data set. Try it with --plan first, which writes nothing."
    )
    draft.fill("out", out)
    draft.fill("teacher.model", teacher)
    _fill_weights(draft, weights)
    draft.offer("teacher.arguments", {"num_classes": _num_classes(opened) or 10})
    _fill_source(draft, opened, source)
    _fill_input(draft, opened, model=teacher)
    num_classes = _num_classes(opened)
    draft.fill("dump.k", default_k(num_classes or MANY_CLASSES), _of_classes(num_classes))
    many = num_classes is not None and num_classes >= MANY_CLASSES
    draft.fill("dump.temperature", [1.0, 2.0] if many else [1.0, 2.0, 4.0], "where students may train")
    draft.offer("dump.feature", {"pool": "LAYER:mean"})
    draft.offer("dump.views", 4)
    draft.offer("augment.transforms", ["RandomHorizontalFlip()"])
    draft.offer("dump.coding", "uint8")
    draft.offer("dump.format", "parquet")
    draft.offer("dump.batch_size", 256)
    draft.offer("device.autocast", "bfloat16")
    return draft.text()


def train_draft(store: str, *, source: str, student: str, valid: str | None, out: str) -> str:
    """A recipe for `softlab train-student`. Raises as `open_source` and `open_store`."""
    opened, stored = open_source(SourceOptions(path=source)), open_store(store)
    draft = Draft(TrainRecipe, title="A student that learns from stored soft labels; the teacher is not run.")
    draft.fill("out", out)
    draft.fill("store", [store], _of_store(stored))
    _fill_source(draft, opened, source)
    if valid is not None:
        draft.fill("valid.path", valid)
    else:
        draft.offer("valid.path", source)
    draft.offer("valid_store", "runs/test.zarr")
    _fill_input(draft, opened, model=student)
    draft.fill("student.small.model", student)
    if stored.has_labels:
        draft.fill("student.small.arguments", {"num_classes": stored.num_classes}, "as the store has")
    elif len(shape := stored.shape_of(stored.feature_names[0])) == 1:
        draft.fill("student.small.arguments", {"num_classes": shape[0]}, "numbers of a vector, as the store has")
    draft.fill("run.epochs", 30)
    draft.fill("run.batch_size", min(128, max(len(opened) // 8, 1)))
    draft.offer("run.accumulate", 2)
    draft.offer("run.patience", 5)
    _fill_learning(draft, opened, stored)
    draft.fill("optimizer.learning_rate", 1e-3)
    draft.offer("optimizer.ema", 0.999)
    draft.offer("distil.baseline", True)
    draft.offer("device.autocast", "bfloat16")
    return draft.text()


def teacher_draft(source: str, *, teacher: str, valid: str | None, out: str) -> str:
    """A recipe for `softlab train-teacher`. Raises as `open_source`."""
    opened = open_source(SourceOptions(path=source))
    draft = Draft(TeacherRecipe, title="A teacher, trained on hard targets.")
    draft.fill("out", out)
    draft.fill("teacher.model", teacher)
    if (num_classes := _num_classes(opened)) is not None:
        draft.fill("teacher.arguments", {"num_classes": num_classes}, "as the source has")
    draft.offer("teacher.weights", "start.safetensors")
    _fill_source(draft, opened, source)
    if valid is not None:
        draft.fill("valid.path", valid)
    else:
        draft.offer("valid.path", source)
    _fill_input(draft, opened, model=teacher)
    draft.offer("augment.transforms", ["RandomHorizontalFlip()"])
    draft.fill("run.epochs", 30)
    draft.fill("run.batch_size", min(128, max(len(opened) // 8, 1)))
    draft.fill("optimizer.learning_rate", 1e-3)
    draft.offer("targets.label_smoothing", 0.1)
    draft.offer("device.autocast", "bfloat16")
    return draft.text()


def look_at(source: Source) -> Images:
    """Some images from all over a source. Raises UnreadableSample for one that can't be decoded."""
    modality = find_modality(DEFAULT_MODALITY)
    indices = spread_out(len(source), count=min(LOOKED_AT, len(source))).source_B.tolist()
    images: list[Tensor] = [decode_sample(source.read(index), modality) for index in indices]
    channels = tuple(sorted({image.shape[0] for image in images}))
    alike = [image for image in images if image.shape[0] == channels[-1]]
    pixels_CN = torch.cat([image.flatten(start_dim=1) for image in alike], dim=1).double() / 255
    return Images(
        sizes=tuple(sorted({(image.shape[1], image.shape[2]) for image in images})),
        num_channels=channels,
        mean=tuple(round(value, 3) for value in pixels_CN.mean(dim=1).tolist()),
        std=tuple(round(value, 3) for value in pixels_CN.std(dim=1).tolist()),
    )


def _fill_weights(draft: Draft, weights: str | None) -> None:
    if weights is None:
        draft.offer("teacher.weights", "teacher.safetensors")
    else:
        draft.fill("teacher.weights", weights)


def _fill_source(draft: Draft, source: Source, path: str) -> None:
    classes = _num_classes(source)
    targets = "no hard targets" if classes is None else f"{classes:,} classes"
    draft.fill("source.path", path, f"{len(source):,} samples, {targets}")
    draft.offer("source.limit", min(1000, len(source)))
    draft.offer("source.skip_unreadable", True)


def _fill_input(draft: Draft, source: Source, *, model: str) -> None:
    images, known = look_at(source), known_input(model)
    if known is not None:
        _fill_known_input(draft, known, model=model, images=images)
        return
    if len(images.sizes) > 1:
        draft.fill("input.size", [224, 224], images.in_words)
    else:
        draft.offer("input.size", list(images.sizes[0]))
    wanted = _channels_of(model)
    _fill_channels(draft, wanted, images=images)
    are_grey = wanted == 1 < len(images.mean)
    mean, std = ((round(float(np.mean(each)), 3),) if are_grey else each for each in (images.mean, images.std))
    draft.fill("input.mean", list(mean), f"of {images.in_words}")
    draft.fill("input.std", [max(value, 0.001) for value in std])


def _fill_channels(draft: Draft, wanted: int | None, *, images: Images) -> None:
    """Where the images' own wouldn't do, or nobody knows."""
    own = images.num_channels
    mixed = "grey ones and RGB among them" if len(own) > 1 else f"of the images {own[0]}"
    if wanted in (1, 3) and own != (wanted,):
        draft.fill("input.channels", wanted, f"as the model's first convolution takes; {mixed}")
    elif len(own) > 1:
        draft.fill("input.channels", 3, mixed)
    elif wanted is None and own == (1,):
        draft.offer("input.channels", 3)


def _channels_of(model: str) -> int | None:
    """That its first convolution takes; None where there is none, or the model can't be built without arguments."""
    try:
        module = build_model(ModelOptions(model=model))
    except ModelError:
        return None
    return next((each.in_channels for each in module.modules() if isinstance(each, nn.Conv2d)), None)


def _fill_known_input(draft: Draft, known: ImageInput, *, model: str, images: Images) -> None:
    draft.fill("input.size", list(known.size), f"as {model} was published; of the images {images.in_words}")
    if known.resize is not None:
        draft.fill("input.resize", known.resize)
    if known.channels is not None:
        draft.fill("input.channels", known.channels)
    if known.interpolation != "bilinear":
        draft.fill("input.interpolation", known.interpolation)
    draft.fill("input.mean", list(known.mean))
    draft.fill("input.std", list(known.std))


def _fill_learning(draft: Draft, source: Source, store: Store) -> None:
    """The loss that the store's labels are for, at a temperature whose tail is stored."""
    if not store.has_labels:
        draft.fill("teachers.alpha", 1.0, "the store holds no soft labels, values alone")
        draft.fill("loss.name", "cosine", "between what the student gives and what is stored")
        draft.fill("loss.output", store.feature_names[0])
        for name in store.feature_names[1:]:
            draft.offer(f"feature.{name}.layer", "LAYER")
        return
    is_softmax = store.head == "softmax"
    needs_no_targets = not is_softmax or store.labels.units is not None or _num_classes(source) is None
    why = "soft labels alone" if needs_no_targets else "0.1 is left for hard targets"
    draft.fill("teachers.alpha", 1.0 if needs_no_targets else 0.9, why)
    draft.fill("loss.name", "kl" if is_softmax else "bce", f"of a teacher with a {store.head} head")
    lowest, highest = min(store.temperatures), max(store.temperatures)
    temperature = lowest if store.num_classes >= MANY_CLASSES else highest
    stored = ", ".join(f"{each:g}" for each in store.temperatures)
    draft.fill("loss.temperature", temperature, f"exact at {stored}")
    for name in store.feature_names:
        draft.offer(f"feature.{name}.layer", "LAYER")


def _num_classes(source: Source) -> int | None:
    if source.class_names is not None:
        return len(source.class_names)
    targets_N = hard_targets(source)
    return None if targets_N is None else int(np.max(targets_N)) + 1


def _of_classes(num_classes: int | None) -> str:
    return "the largest logits" if num_classes is None else f"of {num_classes:,} classes"


def _of_store(store: Store) -> str:
    labels = "values alone"
    if store.has_labels:
        kept = store.labels.selection.in_words if store.labels.is_sampled else f"K = {store.k}"
        labels = f"{kept} of {store.num_classes:,} classes"
    return f"{format_count(store.num_samples, 'sample')}, {format_count(store.num_views, 'view')}, {labels}"
