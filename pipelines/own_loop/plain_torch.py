"""A training loop in plain PyTorch: python pipelines/own_loop/plain_torch.py"""

# Shape letters: B images in a batch, C classes, H height, W width.

import torch
from fashion import FashionMNIST, dump
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import softlab


def main(
    student: nn.Module, data: FashionMNIST, store: softlab.Store, *, epochs: int, batch_size: int, workers: int = 0
) -> None:
    labels = softlab.align(store, data.names, contents=data.files.__getitem__)
    loader = DataLoader(
        softlab.with_index(data),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        collate_fn=softlab.Collator(labels),
    )
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3, weight_decay=0.0)
    for epoch in range(epochs):
        labels.set_epoch(epoch)  # which view is shown, where a store has several
        for images_BCHW, targets_B, soft_labels in loader:
            logits_BC = student(images_BCHW)
            distillation = softlab.distillation_loss(logits_BC, soft_labels, temperature=4.0)
            loss = 0.9 * distillation + 0.1 * cross_entropy(logits_BC, targets_B)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    student = softlab.build_model(softlab.ModelOptions(model="softlab:grey_cnn"))
    main(student, FashionMNIST(), dump(), epochs=3, batch_size=128)
