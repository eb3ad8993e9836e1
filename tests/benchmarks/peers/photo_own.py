"""softlab's own loader: hard labels with views drawn anew, and stored labels with the views that were stored."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Iterator
from functools import partial

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
from tests.benchmarks.peers.photo_loader import ALL, AUGMENTATIONS, FEW, MEAN, STD, Loaded, PhotoLoader, PhotoSet, hard
from tests.modalities.images.batches import images_in

INPUT = ImageInput(mean=MEAN, std=STD)
EPOCHS = 1_000_000
"""Without end."""


def load_hard(photos: PhotoSet, *, augmentation: str) -> Iterator[Loaded]:
    source = open_source(photos.folder)
    views = record_views(ViewRecipe(transforms=AUGMENTATIONS[augmentation]), num_views=1, digest_every=0)
    aligned = Aligned(source=source, inputs=(INPUT,), replay=ImageReplay(views, num_samples=len(source)))
    for batch in _batches(aligned, num_views=None, batch_size=photos.batch_size):
        assert batch.targets_B is not None
        yield hard(images_in(batch), batch.targets_B)


def load_stored(photos: PhotoSet, *, augmentation: str) -> Iterator[Loaded]:
    path = photos.stores[augmentation]
    store = open_store(path, cache=CacheOptions(dir=path.with_suffix(".cache")))
    aligned = beside_store(open_source(photos.folder), store, (INPUT,))
    for batch in _batches(aligned, num_views=store.num_views, batch_size=photos.batch_size):
        assert batch.labels is not None
        yield soft(batch, batch.labels)


def soft(batch: Batch, labels: SoftLabels) -> Loaded:
    return Loaded(
        images_BCHW=images_in(batch), loss=lambda logits_BC: distillation_loss(logits_BC, labels, temperature=1.0)
    )


def _batches(aligned: Aligned, *, num_views: int | None, batch_size: int) -> Iterator[Batch]:
    loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))
    order = ShuffledBatches(
        num_samples=len(aligned.source), batch_size=batch_size, epochs=EPOCHS, seed=0, num_views=num_views
    )
    return loader.load(order)


OWN_HARD, OWN_STORED = (
    {
        augmentation: PhotoLoader(
            name="softlab",
            how=how,
            labels=labels,
            augmentation=augmentation,
            load=partial(load, augmentation=augmentation),
            package="softlab",
        )
        for augmentation in (ALL, FEW)
    }
    for labels, how, load in (
        ("hard", "views drawn anew", load_hard),
        ("stored", "stored views replayed", load_stored),
    )
)
