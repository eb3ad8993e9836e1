"""A teacher whose logits are the pixels that it sees: its labels tell which view of which sample they are of."""

# Shape letters: B rows in a batch, C channels, H height, W width, P pixels of an image, all channels together.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from softlab.loading.batch import Batch
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.views import record_views
from softlab.sources.source import Sample, SkippedSample, Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import dump_teacher
from tests.modalities.images.batches import images_in
from tests.sources.pictures import image_of
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import Pictures, make_options

NUM_PIXELS = 3 * 4 * 6
"""Of one picture."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some pictures of another source, in an order of their own, found by their keys."""

    whole: Source
    numbers: tuple[int, ...]
    name: str = "memory:part"
    class_names: tuple[str, ...] | None = None
    skipped: tuple[SkippedSample, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def targets(self) -> Mapping[str, NDArray[np.int64]]:
        return {name: targets_N[list(self.numbers)] for name, targets_N in self.whole.targets.items()}

    @property
    def field_names(self) -> tuple[str, ...]:
        return self.whole.field_names

    @property
    def keys(self) -> Sequence[str]:
        return [self.whole.keys[number] for number in self.numbers]

    def read(self, index: int) -> Sample:
        return replace(self.whole.read(self.numbers[index]), index=index)


def nameless(count: int) -> Pictures:
    """Pictures whose targets are their numbers."""
    return Pictures(count=count, class_names=None, targets_N=np.arange(count))


def dump_what_is_seen(
    out: Path, source: Source, *, num_views: int = 3, augment: ViewRecipe = AUGMENT, num_pixels: int = NUM_PIXELS
) -> Store:
    """A store that holds every pixel of every view."""
    options = make_options(k=num_pixels, coding="float32", views=num_views, pixel_digests="all")
    dump_teacher(nn.Flatten(), source, out, options, augment=augment)
    return open_store(out, cache=CacheOptions(dir=out.with_suffix(".cache")))


def pixels_in_labels(batch: Batch) -> Tensor:
    """What the teacher saw of each row, [B, P], less the largest value."""
    assert batch.labels is not None
    ids_BP = batch.labels.class_ids_BK.long()
    return torch.empty_like(batch.labels.logits_BK).scatter_(1, ids_BP, batch.labels.logits_BK)


def pixels_in_images(batch: Batch) -> Tensor:
    """What a student sees of each row, in the same form."""
    images_BP = images_in(batch).flatten(1)
    return images_BP - images_BP.max(dim=1, keepdim=True).values


def expected_image(whole: Source, number: int, view: int, *, augment: ViewRecipe = AUGMENT) -> Tensor:
    """One view of one sample, finished, [C, H, W], made by itself."""
    replay = ImageReplay(record_views(augment, num_views=view + 1, digest_every=0), num_samples=len(whole))
    (seen,) = replay.views([number], [view], lambda n: image_of(whole, n))
    return make_input([seen.example], ImageInput())[0]
