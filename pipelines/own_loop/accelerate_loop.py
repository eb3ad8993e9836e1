"""A loop with Accelerate, on any number of processes: accelerate launch pipelines/own_loop/accelerate_loop.py"""

# Shape letters: B images in a batch, C classes, H height, W width.

import torch
from accelerate import Accelerator
from fashion import FashionMNIST, dump
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import softlab


def main(student: nn.Module, data: FashionMNIST, store: softlab.Store, *, epochs: int, batch_size: int) -> None:
    labels = softlab.align(store, data.names, contents=data.files.__getitem__)
    dataset, collate = softlab.with_index(data), softlab.Collator(labels)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3, weight_decay=0.0)

    accelerator = Accelerator()
    student, optimizer, loader = accelerator.prepare(student, optimizer, loader)
    accelerator.register_for_checkpointing(labels)  # so that load_state goes on in the right view
    for epoch in range(epochs):
        labels.set_epoch(epoch)
        for images_BCHW, targets_B, soft_labels in loader:  # soft labels are on the device too
            logits_BC = student(images_BCHW)
            distillation = softlab.distillation_loss(logits_BC, soft_labels, temperature=4.0)
            loss = 0.9 * distillation + 0.1 * cross_entropy(logits_BC, targets_B)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        accelerator.print(f"epoch {epoch + 1}: loss {loss.item():.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    student = softlab.build_model(softlab.ModelOptions(model="softlab:grey_cnn"))
    main(student, FashionMNIST(), dump(), epochs=3, batch_size=128)
