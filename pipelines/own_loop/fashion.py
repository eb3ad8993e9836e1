"""What the examples share: Fashion-MNIST as a user may have it, and a teacher's store of it."""

# Shape letters: C channels, H height, W width.

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

import softlab

FOLDER = Path("data/fashion_mnist")
MEAN, STD = 0.286, 0.353


def to_input(image: Image.Image) -> Tensor:
    """float32 [C, H, W], normalised."""
    image_CHW = functional.to_dtype(functional.pil_to_tensor(image), torch.float32, scale=True)
    normalised: Tensor = functional.normalize(image_CHW, [MEAN], [STD])
    return normalised


class FashionMNIST(Dataset[tuple[Any, int]]):
    """Images with their targets, as in any data set of torch. It knows nothing of softlab."""

    def __init__(self, folder: Path = FOLDER / "train", *, limit: int | None = None) -> None:
        table = pq.read_table(folder).slice(0, limit)
        rows = table["image"].to_pylist()
        self.names: list[str] = [row["path"] for row in rows]
        self.files: list[bytes] = [row["bytes"] for row in rows]
        self.targets: list[int] = table["label"].to_pylist()
        self.transform: Callable[[Image.Image], Any] = to_input

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.open(BytesIO(self.files[index]))), self.targets[index]


def dump(out: Path = Path("runs/own_loop/train.zarr"), *, limit: int | None = None) -> softlab.Store:
    """The store of the training images: the teacher runs once, and not again where the store is there."""
    weights = softlab.ModelOptions(model="softlab:grey_resnet", weights=FOLDER / "teacher.safetensors")
    teacher = softlab.Teacher(
        module=softlab.build_model(weights),
        name="softlab:grey_resnet",
        arguments={},
        input=softlab.ImageInput(mean=(MEAN,), std=(STD,)),
    )
    source = softlab.open_source(softlab.SourceOptions(path=str(FOLDER / "train"), limit=limit))
    softlab.dump_teacher(teacher, source, out, softlab.DumpOptions(k=5, temperature=(1.0, 4.0)))
    return softlab.open_store(out)
