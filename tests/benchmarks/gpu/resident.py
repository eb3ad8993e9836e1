"""A loader whose images lie on the GPU already, so that a step waits for nothing but its labels."""

from collections.abc import Generator, Iterable
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import torch

from softlab.labels.on_device import copy_to
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader
from softlab.loading.order import RowIndices

POOL = 4
"""Batches whose images are shown again and again."""


class ResidentLoader(BatchLoader):
    """Hard targets and stored labels are those of each row, and come as they do in training; images are those of the
    first batches. Where a batch has another size than these, its own images are loaded."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pool: list[Batch] = []

    def _load_inputs(self, order: Iterable[RowIndices], *, num_workers: int) -> Generator[Batch, None, None]:
        rows = iter(order)
        while len(self._pool) < POOL:
            new = list(super()._load_inputs(islice(rows, 1), num_workers=num_workers))
            if not new:
                return
            self._pool += new
            yield from new
        for held, each in zip(cycle(self._pool), rows, strict=False):
            yield self._of(held, each) if len(held) == len(each) else self._batches.make(each).to(self.device)

    def _of(self, held: Batch, rows: RowIndices) -> Batch:
        targets_N = self.aligned.targets_N
        assert targets_N is not None, "they are made with the images"
        return replace(
            held,
            source_B=torch.from_numpy(rows.source_B),
            views_B=torch.from_numpy(rows.views_B),
            targets_B=copy_to(self.device, torch.from_numpy(targets_N[rows.source_B])),
        )
