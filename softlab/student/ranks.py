"""One run in several processes, as `torchrun` starts them: each learns from its part of every batch.

The batches and their order are those of a run in one process. Gradients are averaged over the ranks, so that all hold
the same weights after each step. What is computed over the rows of a batch is computed over each rank's own: batch
normalisation, relational feature losses, dist, and the mean over known hard targets where some are unknown.
"""

import atexit
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.indices import SourceIndex
from softlab.loading.order import RowIndices
from softlab.ranks import num_ranks


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among those of the run."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def own(self, rows: RowIndices) -> RowIndices:
        """This process's part of a batch."""
        if self.count == 1:
            return rows
        size = len(rows) // self.count
        here = slice(self.rank * size, (self.rank + 1) * size)
        return RowIndices(SourceIndex(rows.source_B[here]), rows.views_B[here])

    def check_batch_size(self, batch_size: int) -> None:
        """Raises InvalidOption for a batch that doesn't fall into equal parts."""
        if batch_size % self.count:
            raise InvalidOption(
                f"batch_size = {batch_size}: {self.count} processes share each batch in equal parts. Choose a "
                f"multiple of {self.count} with --batch-size."
            )

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """One exchange for all of them."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, value: Tensor) -> Tensor:
        """Over the ranks; the value itself stays as it is."""
        if self.count == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.count

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all ranks the first one's."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Ranks()


def join_ranks(device: torch.device) -> Ranks:
    """The ranks that torchrun has started, which tells them by environment variables; ALONE without it."""
    if num_ranks() == 1:
        return ALONE
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Ranks(rank=dist.get_rank(), count=dist.get_world_size())
