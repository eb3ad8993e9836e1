"""A script in the manner of timm's own, with its loader and optimizer: python pipelines/own_loop/timm_style.py"""

# Shape letters: B images in a batch, C classes, H height, W width.

import timm
import torch
from fashion import MEAN, STD, FashionMNIST, dump
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter
from torch import nn
from torch.nn.functional import cross_entropy

import softlab


def main(student: nn.Module, data: FashionMNIST, store: softlab.Store, *, epochs: int, batch_size: int) -> None:
    labels = softlab.align(store, data.names, contents=data.files.__getitem__)
    loader = create_loader(
        softlab.with_index(data),  # timm sets its transform, and the data set has it
        input_size=(1, 28, 28),
        batch_size=batch_size,
        is_training=True,
        no_aug=True,  # the stored labels are of the images as they are
        mean=(MEAN,),
        std=(STD,),
        num_workers=0,
        persistent_workers=False,
        use_prefetcher=False,  # timm's own knows images and targets alone
        collate_fn=softlab.Collator(labels),
    )
    optimizer = create_optimizer_v2(student, opt="sgd", lr=0.01, momentum=0.9, weight_decay=0.0)
    for epoch in range(epochs):
        labels.set_epoch(epoch)
        losses = AverageMeter()
        for images_BCHW, targets_B, soft_labels in loader:
            logits_BC = student(images_BCHW)
            distillation = softlab.distillation_loss(logits_BC, soft_labels, temperature=4.0)
            loss = 0.9 * distillation + 0.1 * cross_entropy(logits_BC, targets_B)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(images_BCHW))
        print(f"epoch {epoch + 1}: loss {losses.avg:.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    student = timm.create_model("test_resnet", in_chans=1, num_classes=10)
    main(student, FashionMNIST(), dump(), epochs=3, batch_size=128)
