"""A module for Lightning: python pipelines/own_loop/lightning_module.py"""

# Shape letters: B images in a batch, C classes.

from typing import Any

import lightning
import torch
from fashion import FashionMNIST, dump
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import softlab


class Distillation(lightning.LightningModule):
    def __init__(self, student: nn.Module, labels: softlab.DatasetLabels) -> None:
        super().__init__()
        self.student, self.labels = student, labels

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        images_BCHW, targets_B, soft_labels = batch
        logits_BC = self.student(images_BCHW)
        distillation = softlab.distillation_loss(logits_BC, soft_labels, temperature=4.0)
        loss = 0.9 * distillation + 0.1 * cross_entropy(logits_BC, targets_B)
        self.log("loss", loss, prog_bar=True, batch_size=len(images_BCHW))
        return loss

    def on_train_epoch_start(self) -> None:
        self.labels.set_epoch(self.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labels"] = self.labels.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.labels.load_state_dict(checkpoint["labels"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.student.parameters(), lr=5e-3, weight_decay=0.0)


def main(
    student: nn.Module, data: FashionMNIST, store: softlab.Store, *, epochs: int, batch_size: int, **options: Any
) -> None:
    """`options` are the Trainer's."""
    labels = softlab.align(store, data.names, contents=data.files.__getitem__)
    dataset, collate = softlab.with_index(data), softlab.Collator(labels)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    trainer = lightning.Trainer(max_epochs=epochs, **options)
    trainer.fit(Distillation(student, labels), loader)


if __name__ == "__main__":
    torch.manual_seed(0)
    student = softlab.build_model(softlab.ModelOptions(model="softlab:grey_cnn"))
    main(student, FashionMNIST(), dump(), epochs=3, batch_size=128, default_root_dir="runs/own_loop/lightning")
