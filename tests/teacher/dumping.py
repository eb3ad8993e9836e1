"""A source in memory, small teachers for it, and what a dump of them should hold."""

# Shape letters: N samples, B samples in a batch, C classes, H height, W width.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from softlab.identity import content_hash
from softlab.labels.coding import GAP_STEP, LabelCoding
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.models.device import DeviceOptions
from softlab.sources.source import Sample, SkippedSample, Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import DumpSummary, dump_teacher
from softlab.teacher.dump_progress import DumpProgress, OnProgress
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.sources.pictures import image_of

NUM_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A source in memory: picture n is noise drawn from n alone."""

    count: int = 50
    black: frozenset[int] = frozenset()
    """Numbers of pictures that are all black instead."""

    class_names: tuple[str, ...] | None = tuple(f"class {number}" for number in range(NUM_CLASSES))
    targets_N: NDArray[np.int64] | None = None
    skipped: tuple[SkippedSample, ...] = ()
    name: str = "memory:pictures"

    def __len__(self) -> int:
        return self.count

    @property
    def keys(self) -> Sequence[str]:
        return [f"{number:04d}.png" for number in range(self.count)]

    @property
    def targets(self) -> Mapping[str, NDArray[np.int64]]:
        return {} if self.targets_N is None else {"label": self.targets_N}

    @property
    def field_names(self) -> tuple[str, ...]:
        return ("image",)

    def read(self, index: int) -> Sample:
        pixels_CHW = self._pixels(index)
        return Sample(
            index=index,
            key=self.keys[index],
            fields={"image": pixels_CHW},
            content_hash=content_hash(pixels_CHW.tobytes()),
            place=self.name,
        )

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        pixels_CHW = np.random.default_rng(index).integers(0, 256, (3, 4, 6), dtype=np.uint8)
        return pixels_CHW * np.uint8(index not in self.black)


def make_teacher(*, num_classes: int = NUM_CLASSES, seed: int = 0) -> nn.Sequential:
    """A small net with a named layer to tap; its dropout shows whether it runs in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential()
        layers.add_module("conv", nn.Conv2d(3, 2, 3, padding=1))
        layers.add_module("relu", nn.ReLU(inplace=True))
        layers.add_module("flatten", nn.Flatten())
        layers.add_module("dropout", nn.Dropout(0.5))
        classifier = nn.Linear(2 * 4 * 6, num_classes)
        nn.init.normal_(classifier.weight)  # logits that differ by a few nats
        layers.add_module("classifier", classifier)
    return layers


class AfraidOfTheDark(nn.Module):
    """A teacher whose first logit is `value` for black pictures."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.teacher, self.value = make_teacher(), value

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW)
        logits_BC[(images_BCHW == -1).flatten(1).all(dim=1), 0] = self.value
        return logits_BC


def make_options(**values: Any) -> DumpOptions:
    """Of a dump on the CPU in four shards, the last one ragged, of two batches each."""
    defaults: dict[str, Any] = {"k": 5, "shard_rows": 16, "batch_size": 8, "device": "cpu"}
    if values.get("coding") == "uint8":
        defaults["gap_step"] = GAP_STEP
    given = defaults | values
    names = {"device": "name"} | {name: name for name in ("autocast", "channels_last", "compile", "workers")}
    device = {names[name]: given.pop(name) for name in names if name in given}
    return DumpOptions(device=DeviceOptions(**device), **given)


def images_of(pictures: Pictures, numbers: Sequence[int]) -> Tensor:
    """float32 images_BCHW, as the default input makes them."""
    return make_input([image_of(pictures, number) for number in numbers], ImageInput())


def batches_of(count: int, options: DumpOptions) -> Iterator[range]:
    """Sample numbers of each forward pass: batches don't cross shards."""
    shard_rows = options.shard_rows or count
    for start in range(0, count, shard_rows):
        stop = min(start + shard_rows, count)
        yield from (range(at, min(at + options.batch_size, stop)) for at in range(start, stop, options.batch_size))


@torch.inference_mode()
def forward_of(module: nn.Module, pictures: Pictures, options: DumpOptions) -> Tensor:
    """What a plain forward pass gives, [N, C], in the batches of a dump."""
    module.eval()
    return torch.cat([module(images_of(pictures, batch)) for batch in batches_of(len(pictures), options)])


def expected_labels(logits_NC: Tensor, options: DumpOptions, *, k: int) -> SoftLabels:
    """What a store should give back: the coding is the only loss."""
    labels = keep_top_k(logits_NC, k=k, temperatures=options.temperature)
    coding = LabelCoding(
        coding=options.coding,
        gap_step=options.gap_step or GAP_STEP,
        num_classes=labels.num_classes,
        temperatures=labels.temperatures,
    )
    return coding.decode(coding.encode(labels))


def dump(
    out: str | Path,
    options: DumpOptions | None = None,
    *,
    teacher: Teacher | nn.Module | None = None,
    source: Source | None = None,
    augment: ViewRecipe | None = None,
    on_progress: OnProgress | None = None,
) -> DumpSummary:
    """A finished dump, by default of the small teacher and the pictures."""
    teacher, source = make_teacher() if teacher is None else teacher, source or Pictures()
    options = options or make_options()
    return dump_teacher(teacher, source, out, options, augment=augment, on_progress=on_progress)


def stop_at(rows: int) -> OnProgress:
    """A Ctrl-C when so many rows are computed."""

    def on_progress(progress: DumpProgress) -> None:
        if progress.rows >= rows:
            raise KeyboardInterrupt

    return on_progress


def read_all(out: Path) -> tuple[Store, SoftLabels]:
    """A store, without the row cache, and all of its labels."""
    store = open_store(out, cache=CacheOptions(max_bytes=0))
    return store, store.read(np.arange(store.num_samples))


def assert_same_labels(found: SoftLabels, expected: SoftLabels) -> None:
    """To the bit."""
    for name in ("class_ids_BK", "logits_BK", "log_tail_BT", "max_logit_B"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
    assert (found.temperatures, found.num_classes) == (expected.temperatures, expected.num_classes)
