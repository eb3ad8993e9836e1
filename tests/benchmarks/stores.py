"""Synthetic stores of any size: random logits through the real selection, coding and writer."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from softlab.identity import content_hash
from softlab.labels.coding import Coding
from softlab.sources.source import Sample
from softlab.teacher.dump import as_teacher, dump_teacher
from softlab.teacher.options import DumpOptions
from softlab.views.finishing import Finishing


class RandomLogits(nn.Module):
    """Says something different about every image, at no cost that matters: a table of logits, looked up by pixel."""

    def __init__(self, *, num_classes: int, num_rows: int = 65_536) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(3 * torch.randn(num_rows, num_classes, generator=generator), requires_grad=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.table[(images_BCHW.flatten(1) * 255).round().long() @ torch.tensor([1, 256])]


class BlankImages:
    """A source of images of two pixels, which spell the sample number."""

    name = "blank"
    class_names = None
    targets_N = None
    skipped = ()

    def __init__(self, num_samples: int) -> None:
        self.keys = [str(number) for number in range(num_samples)]

    def __len__(self) -> int:
        return len(self.keys)

    def raw_bytes(self, number: int) -> bytes:
        return number.to_bytes(8, "little")

    def read(self, number: int) -> Sample:
        pixels = torch.tensor([[[number % 256, number // 256 % 256]]], dtype=torch.uint8)
        return Sample(number=number, image_CHW=pixels, content_hash=content_hash(self.raw_bytes(number)))


def write_synthetic_store(
    path: Path, *, form: Literal["zarr", "parquet"], num_samples: int, coding: Coding = "float16"
) -> Path:
    """K = 16 of 1,000 classes, T = 1, 2, 4."""
    options = DumpOptions(k=16, format=form, coding=coding, batch_size=4096, device="cpu")
    teacher = as_teacher(RandomLogits(num_classes=1000), finishing=Finishing(mean=(0.0,), std=(1.0,)))
    dump_teacher(teacher, BlankImages(num_samples), path, options)
    return path
