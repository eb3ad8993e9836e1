"""Other libraries' loaders of photographs, with hard labels."""

# Shape letters: B rows in a batch, C channels, H height, W width.

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

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
    hard,
    over_and_over,
)

SHUFFLED = 1000
"""Samples among which a stream is shuffled."""


def pillow_transforms() -> Callable[[Any], Any]:
    """As torchvision's own reference recipe has them."""
    augment = [v1.RandomResizedCrop(SIDE), v1.RandomHorizontalFlip(), v1.RandAugment()]
    chain: Callable[[Any], Any] = v1.Compose([*augment, v1.ToTensor(), v1.Normalize(MEAN, STD)])
    return chain


def load_folder(photos: PhotoSet) -> Iterator[Loaded]:
    data = ImageFolder(str(photos.folder), transform=pillow_transforms())
    return (hard(*batch) for batch in endless(data, batch_size=photos.batch_size))


def load_tensors(photos: PhotoSet) -> Iterator[Loaded]:
    augment = [v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), v2.RandAugment()]
    chain = v2.Compose([*augment, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    read = partial(decode_image, mode=ImageReadMode.RGB)
    data = ImageFolder(str(photos.folder), transform=chain, loader=lambda path: read(read_file(path)))
    return (hard(*batch) for batch in endless(data, batch_size=photos.batch_size))


def load_timm(photos: PhotoSet) -> Iterator[Loaded]:
    timm_data = import_module("timm.data")
    loader = timm_data.create_loader(
        timm_data.create_dataset("", root=str(photos.folder)),
        input_size=(3, SIDE, SIDE),
        batch_size=photos.batch_size,
        is_training=True,
        color_jitter=0.0,
        auto_augment="rand-m9-n2",
        interpolation="bilinear",
        num_workers=0,
        persistent_workers=False,
        use_prefetcher=False,
        device=torch.device("cpu"),
    )
    return (hard(*batch) for batch in over_and_over(loader))


def _tar(photos: PhotoSet) -> Path:
    return photos.scratch / "photographs.tar"


def write_tar(photos: PhotoSet) -> None:
    webdataset = import_module("webdataset")
    samples = ImageFolder(str(photos.folder)).samples
    with webdataset.TarWriter(str(_tar(photos))) as tar:
        for index in torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist():
            path, target = samples[index]
            tar.write({"__key__": f"{index:06d}", "jpg": Path(path).read_bytes(), "cls": target})


def load_webdataset(photos: PhotoSet) -> Iterator[Loaded]:
    webdataset = import_module("webdataset")
    samples = webdataset.WebDataset(str(_tar(photos)), shardshuffle=False).shuffle(SHUFFLED).decode("pil")
    transformed = samples.to_tuple("jpg", "cls").map_tuple(pillow_transforms(), int)
    batches = transformed.batched(photos.batch_size, partial=False)
    return (hard(images_BCHW, torch.as_tensor(targets_B)) for images_BCHW, targets_B in over_and_over(batches))


def load_datasets(photos: PhotoSet) -> Iterator[Loaded]:
    datasets, transform = import_module("datasets"), pillow_transforms()
    datasets.disable_progress_bars()
    data = datasets.load_dataset(
        "imagefolder", data_dir=str(photos.folder), split="train", cache_dir=str(photos.scratch / "datasets")
    )

    def augment(rows: dict[str, Any]) -> dict[str, Any]:
        return {"image": [transform(image.convert("RGB")) for image in rows["image"]], "label": rows["label"]}

    batches = endless(data.with_transform(augment), batch_size=photos.batch_size)
    return (hard(batch["image"], batch["label"]) for batch in batches)


def prepare_datasets(photos: PhotoSet) -> None:
    next(load_datasets(photos))


def load_dali(photos: PhotoSet) -> Iterator[Loaded]:
    dali, fn = import_module("nvidia.dali"), import_module("nvidia.dali.fn")
    randaugment = import_module("nvidia.dali.auto_aug.rand_augment").rand_augment

    @dali.pipeline_def(batch_size=photos.batch_size, num_threads=1, device_id=None, enable_conditionals=True, seed=0)  # type: ignore[untyped-decorator, unused-ignore]
    def make() -> Any:
        files, targets = fn.readers.file(file_root=str(photos.folder), random_shuffle=True, initial_fill=SHUFFLED)
        ratio = [3 / 4, 4 / 3]
        cut = fn.decoders.image_random_crop(files, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=ratio)
        flipped = fn.flip(fn.resize(cut, size=(SIDE, SIDE)), horizontal=fn.random.coin_flip())
        augmented = randaugment(flipped, n=2, m=9, shape=[SIDE, SIDE])
        scale = {"mean": [255 * value for value in MEAN], "std": [255 * value for value in STD]}
        return fn.crop_mirror_normalize(augmented, dtype=dali.types.FLOAT, output_layout="CHW", **scale), targets

    pipeline = make()
    pipeline.build()
    while True:
        images, targets = (torch.from_numpy(np.array(each.as_tensor())) for each in pipeline.run())
        yield hard(images, targets[:, 0].long())


def _beton(photos: PhotoSet) -> Path:
    return photos.scratch / "photographs.beton"


def write_ffcv(photos: PhotoSet) -> None:
    fields, writer = import_module("ffcv.fields"), import_module("ffcv.writer")
    columns = {"image": fields.RGBImageField(write_mode="jpg", jpeg_quality=90), "label": fields.IntField()}
    data = ImageFolder(str(photos.folder))
    writer.DatasetWriter(str(_beton(photos)), columns, num_workers=1).from_indexed_dataset(data)


def load_ffcv(photos: PhotoSet) -> Iterator[Loaded]:
    loading, images, basics, made = map(
        import_module, ("ffcv.loader", "ffcv.fields.rgb_image", "ffcv.fields.basics", "ffcv.transforms")
    )
    scale = [255 * np.array(values) for values in (MEAN, STD)]
    pipelines = {
        "image": [
            images.RandomResizedCropRGBImageDecoder((SIDE, SIDE)),
            made.RandomHorizontalFlip(),
            made.NormalizeImage(*scale, np.float32),
            made.ToTensor(),
            made.ToTorchImage(channels_last=False),
        ],
        "label": [basics.IntDecoder(), made.ToTensor()],
    }
    options = {"num_workers": 1, "batches_ahead": 1, "drop_last": True, "order": loading.OrderOption.RANDOM}
    loader = loading.Loader(str(_beton(photos)), batch_size=photos.batch_size, pipelines=pipelines, **options)
    return (hard(images_BCHW, targets_B1[:, 0]) for images_BCHW, targets_B1 in over_and_over(loader))


LIBRARIES = [
    PhotoLoader(
        name="torchvision",
        how="ImageFolder, transforms of Pillow's images, DataLoader",
        labels="hard",
        augmentation=ALL,
        load=load_folder,
        package="torchvision",
    ),
    PhotoLoader(
        name="torchvision",
        how="ImageFolder, decode_image, transforms v2 of tensors, DataLoader",
        labels="hard",
        augmentation=ALL,
        load=load_tensors,
        package="torchvision",
    ),
    PhotoLoader(
        name="timm",
        how="create_dataset, create_loader, no prefetcher",
        labels="hard",
        augmentation=ALL,
        load=load_timm,
        modules=("timm.data",),
        package="timm",
    ),
    PhotoLoader(
        name="webdataset",
        how=f"a tar file, shuffled among {SHUFFLED:,}, the first line's transforms",
        labels="hard",
        augmentation=ALL,
        load=load_webdataset,
        prepare=write_tar,
        modules=("webdataset",),
        package="webdataset",
    ),
    PhotoLoader(
        name="Hugging Face datasets",
        how="imagefolder, the first line's transforms, DataLoader",
        labels="hard",
        augmentation=ALL,
        load=load_datasets,
        prepare=prepare_datasets,
        modules=("datasets",),
        package="datasets",
    ),
    PhotoLoader(
        name="NVIDIA DALI",
        how="a pipeline on the CPU, one thread, auto_aug.rand_augment",
        labels="hard",
        augmentation=ALL,
        load=load_dali,
        modules=("nvidia.dali", "nvidia.dali.auto_aug.rand_augment"),
        package="nvidia-dali-cuda130",
    ),
    PhotoLoader(
        name="FFCV",
        how="a .beton file of JPEGs, one worker thread, compiled by numba",
        labels="hard",
        augmentation=FEW,
        load=load_ffcv,
        prepare=write_ffcv,
        modules=("ffcv.loader", "ffcv.writer", "ffcv.fields.rgb_image", "ffcv.transforms"),
        package="ffcv",
    ),
]
