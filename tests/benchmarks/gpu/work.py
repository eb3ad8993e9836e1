"""What a GPU is given to do: models, sizes, and images that cost nothing to make."""

# Shape letters: P images in the pool, C channels, H height, W width.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from softlab.identity import content_hash
from softlab.keys import Keys
from softlab.models.device import DeviceOptions
from softlab.sources.source import Sample, SkippedSample
from tests.benchmarks.tokens import SMALL_TEACHER, TEACHER

POOL = 64
"""Images that are really there; decoding is not what is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """By default for a large GPU."""

    device: str = "cuda"
    autocast: Literal["none", "bfloat16"] = "bfloat16"
    rounds: int = 3
    teachers: tuple[str, ...] = ("torchvision:resnet50", "torchvision:vit_b_16")
    student: str = "torchvision:resnet18"
    num_images: int = 8192
    num_batches: int = 16
    """Of a turn of a teacher whose images are on the GPU."""

    side: int = 224
    batch_size: int = 256
    turn_s: float = 1.0
    """Of a student's steps."""

    num_rows: int = 4096
    num_classes: int = 152_064
    width: int = 2048
    """Of the vocabulary's output layer."""

    language_model: Mapping[str, object] | None = None
    """Arguments of `softlab:tokens_transformer`; default: those of a model of the size of SmolLM2-135M."""

    num_documents: int = 32
    tests: tuple[str, ...] = ()
    """Files whose tests marked `gpu` run; default: all."""

    @property
    def placed(self) -> DeviceOptions:
        return DeviceOptions(name=self.device, autocast=self.autocast, channels_last=True)

    @property
    def is_on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    @property
    def causal_model(self) -> dict[str, object]:
        return dict(self.language_model or TEACHER)


ON_A_CPU = Work(
    device="cpu",
    autocast="none",
    rounds=1,
    teachers=("torchvision:mobilenet_v3_small",),
    student="torchvision:squeezenet1_1",
    num_images=16,
    num_batches=2,
    side=64,
    batch_size=4,
    turn_s=0.1,
    num_rows=32,
    num_classes=2000,
    width=16,
    language_model=SMALL_TEACHER,
    num_documents=4,
    tests=("tests/labels/test_soft_labels.py",),
)
"""Enough to see that all of it runs."""


class RandomImages:
    """A source of a few random RGB images, shown again and again under new keys."""

    name = "random images"
    class_names = None
    skipped: tuple[SkippedSample, ...] = ()
    field_names = ("image",)

    def __init__(self, num_samples: int, *, side: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._pool_PCHW = torch.randint(256, (POOL, 3, side, side), dtype=torch.uint8, generator=generator)
        self.keys = Keys(str(number) for number in range(num_samples))
        self.targets: Mapping[str, NDArray[np.int64]] = {"label": np.arange(num_samples) % 1000}

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Sample:
        return Sample(
            index=index,
            key=self.keys[index],
            fields={"image": self._pool_PCHW[index % POOL].numpy()},
            content_hash=content_hash(index.to_bytes(8, "little")),
            place=self.name,
        )
