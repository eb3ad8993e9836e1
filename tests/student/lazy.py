"""Students whose logits are computed some rows at a time, and batches of rows that they learn from."""

# Shape letters: R rows of all samples, D width of the hidden states, C classes.

import torch
from torch import Tensor

from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.selection import keep_top_k
from softlab.loading.batch import Batch
from tests.modalities.images.batches import collated

NUM_CLASSES, WIDTH, NUM_ROWS = 7, 4, 11


def lazy_logits(*, dtype: torch.dtype = torch.float64, seed: int = 3) -> LazyLogits:
    """With everything that an output layer may have; all parts are leaves that ask for a gradient."""
    random = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).to(dtype).requires_grad_()

    return LazyLogits(
        hidden=leaf(NUM_ROWS, WIDTH),
        weight_CD=leaf(NUM_CLASSES + 2, WIDTH),
        bias_C=leaf(NUM_CLASSES + 2),
        scale=0.5,
        softcap=20.0,
        num_classes=NUM_CLASSES,
    )


def rows_batch(*, seed: int = 0, k: int = 3) -> Batch:
    """Three samples with eleven rows, the k largest of whose logits are kept; two hard targets are unknown."""
    random = torch.Generator().manual_seed(seed)
    targets_R = torch.randint(NUM_CLASSES, (NUM_ROWS,), generator=random)
    targets_R[[2, 9]] = -1
    return Batch(
        source_B=torch.arange(3),
        views_B=torch.zeros(3, dtype=torch.int64),
        inputs=(collated(torch.randn(3, 1, 2, 3, generator=random)),),
        content_hashes=(b"",) * 3,
        targets_B=targets_R,
        labels=keep_top_k(3 * torch.randn(NUM_ROWS, NUM_CLASSES, generator=random), k=k, temperatures=(1.0, 4.0)),
        counts_B=torch.tensor([4, 0, 7]),
    )
