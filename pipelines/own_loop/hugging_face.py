"""Hugging Face's Trainer: python pipelines/own_loop/hugging_face.py"""

# Shape letters: B images in a batch, C classes.

from typing import Any

import torch
from fashion import FashionMNIST, dump
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import TrainingArguments

import softlab
from softlab.integrations.transformers import DistillationOptions, DistillationTrainer


class Named(Dataset[dict[str, Any]]):
    """Items as Trainer wants them: each field has the name of one of the model's arguments."""

    def __init__(self, data: FashionMNIST) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_CHW, target = self.data[index]
        return {"pixel_values": image_CHW, "labels": target}


class Classifier(nn.Module):
    """Returns what Trainer wants; models of transformers do so by themselves."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits_BC = self.net(pixel_values)
        return {"loss": cross_entropy(logits_BC, labels), "logits": logits_BC}


def main(
    student: nn.Module, data: FashionMNIST, store: softlab.Store, *, epochs: int, batch_size: int, **options: Any
) -> None:
    """`options` are further `TrainingArguments`."""
    arguments = TrainingArguments(
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        dataloader_drop_last=True,
        learning_rate=5e-3,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        **options,
    )
    trainer = DistillationTrainer(
        Classifier(student),
        arguments,
        train_dataset=softlab.with_index(Named(data)),
        soft_labels=softlab.align(store, data.names, contents=data.files.__getitem__),
        distillation=DistillationOptions(alpha=0.9, loss=softlab.KlLoss(temperature=4.0)),
    )
    trainer.train()


if __name__ == "__main__":
    torch.manual_seed(0)
    student = softlab.build_model(softlab.ModelOptions(model="softlab:grey_cnn"))
    main(student, FashionMNIST(), dump(), epochs=3, batch_size=128, output_dir="runs/own_loop/trainer", report_to=[])
