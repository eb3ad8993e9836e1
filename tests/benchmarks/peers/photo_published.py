"""Loaders of stored soft labels that came with papers: FKD (Shen, Xing 2022) and TinyViT (Wu et al. 2022).

They come in no package: give the path of a checkout, of which nothing is copied here. Their files of labels are written
here, from softlab's store.

    git clone https://github.com/szq0214/FKD                --checkout fkd=FKD/FKD
    git clone https://github.com/microsoft/Cream            --checkout tinyvit=Cream/TinyViT
"""

# Shape letters: N samples, B rows in a batch, K entries kept, C classes.

import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from softlab.labels.losses.teacher import distribution_at
from softlab.modalities.views import draw
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from tests.benchmarks.peers.photo_loader import (
    ALL,
    FEW,
    MEAN,
    SIDE,
    STD,
    Loaded,
    PhotoLoader,
    PhotoSet,
    endless,
)

CROPS = 4
"""Of an image in a batch, as FKD's own command has them."""


def _import_from(checkout: Path, name: str) -> ModuleType:
    sys.path.insert(0, str(checkout))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(checkout))


def _open(photos: PhotoSet, augmentation: str) -> Store:
    path = photos.stores[augmentation]
    return open_store(path, cache=CacheOptions(dir=path.with_suffix(".cache")))


def _read(store: Store, *, view: int) -> tuple[Tensor, Tensor]:
    """Class ids and probabilities [N, K] at temperature 1. The store counts samples as ImageFolder does, by path."""
    kept = distribution_at(store.read(range(store.num_samples), view=view), temperature=1.0, tail="uniform")
    return kept.class_ids_BK, kept.log_kept_BK.exp()


def _labels_of_fkd(photos: PhotoSet) -> Path:
    return photos.scratch / "fkd"


def write_fkd(photos: PhotoSet) -> None:
    """A file for each image: where its crops are, which are mirrored, and the probabilities of 5 classes of each."""
    photos.checkout("fkd")
    store = _open(photos, FEW)
    labels_NV2K = torch.stack([torch.stack(_read(store, view=view), dim=1) for view in range(store.num_views)], dim=1)
    for index, key in enumerate(store.read_samples().keys):
        file = (_labels_of_fkd(photos) / photos.folder.name / key).with_suffix(".tar")
        file.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(photos.folder / key) as image:
            crops = [_crop(store, index, view, size=image.size) for view in range(store.num_views)]
        corners, flips = (torch.tensor(values) for values in zip(*crops, strict=True))
        torch.save((corners, flips, labels_NV2K[index].float()), file)


def _crop(store: Store, index: int, view: int, *, size: tuple[int, int]) -> tuple[list[float], bool]:
    """Top, left, height and width as shares, and whether it is mirrored: the view that the store's label is of."""
    width, height = size
    torch.manual_seed(draw(store.manifest.views.seed, view, index, purpose=b"pixels") & 0xFFFFFFFF)
    found = v2.RandomResizedCrop(SIDE).make_params([torch.empty(3, height, width, dtype=torch.uint8)])
    shares = [found["top"] / height, found["left"] / width, found["height"] / height, found["width"] / width]
    return shares, bool(torch.rand(1) < 0.5)


def load_fkd(photos: PhotoSet) -> Iterator[Loaded]:
    fkd = _import_from(photos.checkout("fkd"), "utils_FKD")
    crop = fkd.RandomResizedCrop_FKD(size=SIDE, interpolation="bilinear")
    normalise = [v1.ToTensor(), v1.Normalize(MEAN, STD)]
    data = fkd.ImageFolder_FKD(
        num_crops=CROPS,
        softlabel_path=str(_labels_of_fkd(photos)),
        root=str(photos.folder),
        transform=fkd.Compose_FKD(transforms=[crop, fkd.RandomHorizontalFlip_FKD(), *normalise]),
    )
    criterion = fkd.Soft_CrossEntropy()
    for images, _, labels in endless(data, batch_size=photos.batch_size // CROPS):
        soft_BC = fkd.Recover_soft_label(torch.cat(labels), "marginal_smoothing_k5", len(data.classes))
        yield Loaded(images_BCHW=torch.cat(images), loss=partial(_loss_of_fkd, soft_BC, criterion=criterion))


def _loss_of_fkd(soft_BC: Tensor, logits_BC: Tensor, *, criterion: nn.Module) -> Tensor:
    loss: Tensor = criterion(logits_BC, soft_BC)
    return loss


def _labels_of_tinyvit(photos: PhotoSet) -> Path:
    return photos.scratch / "tinyvit"


def write_tinyvit(photos: PhotoSet) -> None:
    """The file of one epoch: of each image the seed of its view, K class ids and K probabilities."""
    photos.checkout("tinyvit")
    store = _open(photos, ALL)
    class_ids_NK, shares_NK = _read(store, view=0)
    row = np.dtype([("seed", "<i4"), ("ids", "<i2", (store.k,)), ("shares", "<f2", (store.k,))])
    rows_N = np.zeros(store.num_samples, dtype=row)
    rows_N["seed"], rows_N["ids"], rows_N["shares"] = range(len(rows_N)), class_ids_NK.numpy(), shares_NK.numpy()
    folder = _labels_of_tinyvit(photos) / f"logits_top{store.k}_epoch0"
    folder.mkdir(parents=True)
    (folder / "rank0-values.bin").write_bytes(rows_N.tobytes())
    (folder / "rank0-keys.txt").write_text("".join(f"{index}\n" for index in range(len(rows_N))))


class _NumpyOfThen:
    """numpy as TinyViT knew it: since 2.4 an array of one number is no number any more."""

    def frombuffer(self, data: bytes, dtype: type[np.generic]) -> NDArray[Any]:
        return np.frombuffer(data, dtype=dtype).squeeze()

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def load_tinyvit(photos: PhotoSet) -> Iterator[Loaded]:
    checkout, top_k = photos.checkout("tinyvit"), _open(photos, ALL).k
    augmentation = _import_from(checkout, "data.augmentation")
    wrapper: Any = _import_from(checkout, "data.augmentation.dataset_wrapper")
    wrapper.np = _NumpyOfThen()
    transform = augmentation.create_transform(
        SIDE, is_training=True, color_jitter=None, auto_augment="rand-m9-n2", mean=MEAN, std=STD
    )
    images = ImageFolder(str(photos.folder), transform=transform)
    data = wrapper.DatasetWrapper(images, logits_path=str(_labels_of_tinyvit(photos)), topk=top_k, write=False)
    for (images_BCHW, _), (ids_BK, shares_BK, _) in endless(data, batch_size=photos.batch_size):
        tail_B1 = (1 - shares_BK.float().sum(dim=1, keepdim=True)) / (len(images.classes) - top_k)
        soft_BC = tail_B1.repeat(1, len(images.classes)).scatter_(1, ids_BK.long(), shares_BK.float())
        yield Loaded(images_BCHW=images_BCHW, loss=partial(_soft_cross_entropy, soft_BC))


def _soft_cross_entropy(soft_BC: Tensor, logits_BC: Tensor) -> Tensor:
    return -(soft_BC * log_softmax(logits_BC, dim=1)).sum(dim=1).mean()


PUBLISHED = [
    PhotoLoader(
        name="TinyViT",
        how="its DatasetWrapper and transforms, over ImageFolder",
        labels="stored",
        augmentation=ALL,
        load=load_tinyvit,
        prepare=write_tinyvit,
        modules=("timm.data",),
    ),
    PhotoLoader(
        name="FKD",
        how=f"its ImageFolder_FKD, {CROPS} crops of an image in a batch",
        labels="stored",
        augmentation=FEW,
        load=load_fkd,
        prepare=write_fkd,
    ),
]
