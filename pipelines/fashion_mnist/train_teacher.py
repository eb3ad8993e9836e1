"""Train the demo's teacher on Fashion-MNIST's training set minus 5,000 validation images; write its weights.

    python pipelines/fashion_mnist/train_teacher.py --raw FOLDER_WITH_THE_FOUR_IDX_FILES

Augmentation (flip, shift, erased square) runs on whole batches of tensors. The weights written are the last ones of a
fixed schedule, so that neither the validation nor the test images choose anything.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from raw import read_split, validation_split
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from softlab.modalities.images.models import grey_resnet

MEAN, STD = 0.2860, 0.3530


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, help="folder with the four .gz files; default: torchvision downloads them")
    parser.add_argument("--out", type=Path, default=Path("data/fashion_mnist/teacher.safetensors"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.15)
    options = parser.parse_args()

    images, labels = _tensors(*read_split(options.raw, split="train"))
    test_images, test_labels = _tensors(*read_split(options.raw, split="test"))
    train_ids, valid_ids = (torch.from_numpy(ids) for ids in validation_split(len(images), held_out=5_000))
    torch.manual_seed(0)
    model = grey_resnet().to(memory_format=torch.channels_last)
    steps_per_epoch = len(train_ids) // options.batch_size
    optimizer = torch.optim.SGD(
        model.parameters(), lr=options.learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.learning_rate, total_steps=options.epochs * steps_per_epoch, pct_start=0.2
    )
    for epoch in range(options.epochs):
        start = time.perf_counter()
        model.train()
        for batch in train_ids[torch.randperm(len(train_ids))][: steps_per_epoch * options.batch_size].chunk(
            steps_per_epoch
        ):
            loss = functional.cross_entropy(_forward(model, augment(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        valid = accuracy(model, images[valid_ids], labels[valid_ids])
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, validation {valid:.2%}, {time.perf_counter() - start:.0f} s")
    measured = {
        "train_accuracy": accuracy(model, images[train_ids], labels[train_ids]),
        "validation_accuracy": accuracy(model, images[valid_ids], labels[valid_ids]),
        "test_accuracy": accuracy(model, test_images, test_labels),
    }
    print(json.dumps(measured, indent=2))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, options.out)


def augment(images: Tensor) -> Tensor:
    """Flip each image with probability 1/2, shift it by up to 2 pixels, erase one square of up to 8 pixels."""
    rows = len(images)
    images = torch.where(torch.rand(rows, 1, 1, 1) < 0.5, images.flip(3), images)
    padded = functional.pad(images, (2, 2, 2, 2), value=-MEAN / STD)
    pixels = torch.arange(28)
    down, right = torch.randint(0, 5, (2, rows, 1))
    y, x = (pixels + down)[:, :, None], (pixels + right)[:, None, :]
    images = padded[torch.arange(rows)[:, None, None], 0, y, x]
    size = torch.randint(0, 9, (rows, 1))
    top, left = torch.randint(-4, 28, (2, rows, 1))
    inside_y = (pixels >= top) & (pixels < top + size)
    inside_x = (pixels >= left) & (pixels < left + size)
    return images.masked_fill(inside_y[:, :, None] & inside_x[:, None, :], 0.0)[:, None]


@torch.inference_mode()
def accuracy(model: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is at their label, in float32, no test-time augmentation."""
    model.eval()
    hits = 0
    for batch, target in zip(images.chunk(len(images) // 500), labels.chunk(len(images) // 500), strict=True):
        predicted = model(batch.contiguous(memory_format=torch.channels_last)).argmax(1)
        hits += int((predicted == target).sum())
    return hits / len(images)


def _forward(model: torch.nn.Module, images: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits: Tensor = model(images.contiguous(memory_format=torch.channels_last))
    return logits.float()


def _tensors(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    return (torch.from_numpy(images.copy())[:, None].float() / 255 - MEAN) / STD, torch.from_numpy(labels)


if __name__ == "__main__":
    main()
