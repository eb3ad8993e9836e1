"""Batches that no data set is needed for."""

# Shape letters: B rows in a batch, C classes.

import torch
from torch import nn

from softlab.labels.selection import keep_top_k
from softlab.loading.batch import Batch
from tests.modalities.images.batches import collated

NUM_CLASSES = 6


def random_batch(*, seed: int = 0, rows: int = 8, k: int = NUM_CLASSES) -> Batch:
    """Images of 2x3 pixels, with targets and the k largest of six logits."""
    random = torch.Generator().manual_seed(seed)
    logits_BC = 3 * torch.randn(rows, NUM_CLASSES, generator=random)
    return Batch(
        source_B=torch.arange(rows),
        views_B=torch.zeros(rows, dtype=torch.int64),
        inputs=(collated(torch.randn(rows, 1, 2, 3, generator=random)),),
        content_hashes=(b"",) * rows,
        targets_B=torch.randint(NUM_CLASSES, (rows,), generator=random),
        labels=keep_top_k(logits_BC, k=k, temperatures=(1.0, 4.0)),
    )


def small_module(*, seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, NUM_CLASSES))


def convolution(*, seed: int = 0) -> nn.Sequential:
    """Has what a state must hold besides parameters: running statistics, and dropout's random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, NUM_CLASSES)
        )
