"""softlab's own loader: hard labels with views drawn anew, and stored labels with the views that were stored."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import torch

from softlab.labels.losses import distillation_loss
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.aligned import Aligned, beside_store
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.opening import open_source
from softlab.modalities.views import record_views
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from tests.benchmarks.peers.photo_loader import (
    ALL,
    AUGMENTATIONS,
    FEW,
    MEAN,
    SCALED,
    STD,
    Loaded,
    PhotoLoader,
    PhotoSet,
    hard,
)
from tests.modalities.images.batches import images_in

INPUT = ImageInput(mean=MEAN, std=STD)
EPOCHS = 1_000_000
"""Without end."""

IMAGES_GIB = 4.0
"""Of decoded images that are kept: 2,000 of 500 x 375 take 1.1."""


def load_hard(photos: PhotoSet, *, augmentation: str, input: ImageInput = INPUT) -> Iterator[Loaded]:
    source = open_source(photos.folder)
    views = record_views(ViewRecipe(transforms=AUGMENTATIONS[augmentation]), num_views=1, digest_every=0)
    aligned = Aligned(source=source, inputs=(input,), replay=ImageReplay(views, num_samples=len(source)))
    for batch in _batches(aligned, num_views=None, batch_size=photos.batch_size):
        assert batch.targets_B is not None
        yield hard(images_in(batch), batch.targets_B)


def load_stored(photos: PhotoSet, *, store: str, views_per_image: int = 1, images_gib: float = 0.0) -> Iterator[Loaded]:
    path = photos.stores[store]
    opened = open_store(path, cache=CacheOptions(dir=path.with_suffix(".cache"), images_gib=images_gib))
    aligned = beside_store(open_source(photos.folder), opened, (INPUT,))
    batches = _batches(
        aligned, num_views=opened.num_views, batch_size=photos.batch_size, views_per_image=views_per_image
    )
    for batch in batches:
        assert batch.labels is not None
        yield soft(batch, batch.labels)


def keep_decoded(photos: PhotoSet) -> None:
    """An epoch fills the cache of decoded images."""
    import_module("lmdb")
    batches, num_samples = load_stored(photos, store=ALL, images_gib=IMAGES_GIB), len(open_source(photos.folder))
    for _ in range(num_samples // photos.batch_size):
        next(batches)


def soft(batch: Batch, labels: SoftLabels) -> Loaded:
    return Loaded(
        images_BCHW=images_in(batch), loss=lambda logits_BC: distillation_loss(logits_BC, labels, temperature=1.0)
    )


def _batches(aligned: Aligned, *, num_views: int | None, batch_size: int, views_per_image: int = 1) -> Iterator[Batch]:
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))
    order = ShuffledBatches(
        num_samples=len(aligned.source),
        batch_size=batch_size,
        epochs=EPOCHS,
        seed=0,
        num_views=num_views,
        views_per_image=views_per_image,
    )
    return loader.load(order)


def _hard(how: str, augmentation: str, *, input: ImageInput = INPUT) -> PhotoLoader:
    load = partial(load_hard, augmentation=augmentation, input=input)
    return _own(how, load, labels="hard", augmentation=augmentation)


def _stored(how: str, store: str, **options: Any) -> PhotoLoader:
    load = partial(load_stored, store=store, **options)
    return _own(how, load, labels="stored", augmentation=FEW if store == FEW else ALL)


def _own(how: str, load: Callable[[PhotoSet], Iterator[Loaded]], *, labels: str, augmentation: str) -> PhotoLoader:
    modules = ("simplejpeg",) if SCALED in how else ()
    return PhotoLoader(
        name="softlab",
        how=how,
        labels=labels,
        augmentation=augmentation,
        load=load,
        modules=modules,
        package="softlab",
    )


ANEW, AGAIN, OF_4 = "views drawn anew", "stored views replayed", "stored views, 4 of an image in a batch"
HARD, STORED = _hard(ANEW, ALL), _stored(AGAIN, ALL)
STORED_OF_4 = _stored(OF_4, ALL, views_per_image=4)
OWN = [
    HARD,
    STORED,
    _stored("stored views, 2 of an image in a batch", ALL, views_per_image=2),
    STORED_OF_4,
    replace(
        _stored(f"{AGAIN}, decoded images kept", ALL, images_gib=IMAGES_GIB), prepare=keep_decoded, modules=("lmdb",)
    ),
    _hard(f"{ANEW}, JPEGs {SCALED}", ALL, input=replace(INPUT, jpeg="scaled")),
    _stored(f"{AGAIN}, JPEGs {SCALED}", SCALED),
    _stored(f"{OF_4}, JPEGs {SCALED}", SCALED, views_per_image=4),
    _hard(ANEW, FEW),
    _stored(AGAIN, FEW),
    _stored(OF_4, FEW, views_per_image=4),
]
