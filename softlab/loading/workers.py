"""Processes that make batches beside the model's work: how many, and how long they stay."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from softlab.loading.order import RowIndices
from softlab.loading.shared_memory import PREFETCHED
from softlab.ranks import num_local_ranks

START_METHOD = "fork" if sys.platform == "linux" else None
"""A fork has all that is imported, and needs nothing that can be pickled: it starts in 0.06 s of a core. From a server
that has imported softlab one takes 0.27 s, and the server 3.3 s. None: what Python does on that system."""


class _Orders:
    """The sampler of torch's loader, which is given anew what it is to give."""

    now: Iterable[RowIndices] = ()

    def __iter__(self) -> Iterator[RowIndices]:
        return iter(self.now)


class Workers:
    """So many processes, or with 0 this one, that make what a data set has for some rows. They start with the first
    order, and end when they are closed."""

    def __init__(self, dataset: Dataset[Any], count: int, *, pin_memory: bool) -> None:
        self._orders = _Orders()
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            sampler=self._orders,
            batch_size=None,
            num_workers=count,
            prefetch_factor=PREFETCHED if count else None,
            persistent_workers=count > 0,
            multiprocessing_context=START_METHOD if count else None,
            generator=torch.Generator(),  # for the workers' seeds, which else come from the global random state
            pin_memory=pin_memory,
        )
        self._made: Iterator[Any] | None = None

    def make(self, order: Iterable[RowIndices]) -> Iterator[Any]:
        """For the rows in `order`, in turn. Only one order at a time, and a next one only when all of it is made."""
        self._orders.now = order
        self._made = iter(self._loader)
        return self._made

    def close(self) -> None:
        """End the processes, also in the middle of an order."""
        # An error's traceback may keep the iterator. Where it is freed as garbage, torch's way to tell the workers that
        # they should end is garbage too, and each is waited for, 5 s long.
        if isinstance(self._made, _MultiProcessingDataLoaderIter):
            self._made._shutdown_workers()


def choose_workers(workers: int | None, device: torch.device) -> int:
    """Decoding processes: beside a model on the CPU they would only take its cores, and processes that share a machine
    share its cores."""
    if workers is not None:
        return workers
    cores = torch.multiprocessing.cpu_count() // num_local_ranks()
    return 0 if device.type == "cpu" else min(8, max(cores - 1, 1))
