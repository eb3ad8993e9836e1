"""Dumps of several views of the pictures, and what the teacher saw of them."""

# Shape letters: N samples, C classes.

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.views import View, record_views
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import DumpSummary
from softlab.teacher.dump_progress import OnProgress
from softlab.teacher.options import DumpOptions
from tests.sources.pictures import image_of
from tests.teacher.dumping import Pictures, batches_of, dump, make_options

AUGMENT = ViewRecipe(transforms=("RandomCrop([4, 6], padding=2)", "RandomHorizontalFlip()"), seed=5)
MIXING = ViewRecipe(transforms=("RandomHorizontalFlip()",), mixup=1.0, cutmix=1.0, mix_share=0.7)


def dump_views(
    out: Path,
    views: int | str,
    *,
    augment: ViewRecipe = AUGMENT,
    teacher: nn.Module | None = None,
    source: Source | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> DumpSummary:
    """A finished dump of so many views, or of so many more."""
    options = {"views": views, "pixel_digests": "all"} | options
    return dump(out, make_options(**options), teacher=teacher, source=source, augment=augment, on_progress=on_progress)


def open_uncached(out: Path) -> Store:
    return open_store(out, cache=CacheOptions(max_bytes=0))


def seen(pictures: Source, view: int, *, augment: ViewRecipe = AUGMENT) -> list[View]:
    """One view of every picture after the random part, each replayed alone."""
    record = record_views(augment, num_views=view + 1, digest_every=0)
    replay = ImageReplay(record, num_samples=len(pictures))
    numbers = range(len(pictures))
    return [replay.views([number], [view], lambda n: image_of(pictures, n))[0] for number in numbers]


@torch.inference_mode()
def forward_of_view(
    module: nn.Module, pictures: Pictures, view: int, options: DumpOptions, *, augment: ViewRecipe = AUGMENT
) -> Tensor:
    """What a plain forward pass gives on one view, [N, C], in the batches of a dump."""
    module.eval()
    images = [each.example for each in seen(pictures, view, augment=augment)]
    batches = batches_of(len(pictures), options)
    return torch.cat([module(make_input([images[number] for number in batch], ImageInput())) for batch in batches])


def samples_of(store: Store) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(store.num_samples)
