"""What the ranks of a training run exchange: each learns from its part of every batch.

The batches and their order are those of a run in one process. Gradients are averaged over the ranks, so that all hold
the same weights after each step. What is computed over the rows of a batch is computed over each rank's own: batch
normalisation, relational feature losses, dist, and the mean over known hard targets where some are unknown.
"""

import atexit
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from softlab.errors import InvalidOption, SoftlabError
from softlab.indices import SourceIndex
from softlab.loading.order import RowIndices
from softlab.ranks import Ranks, join_ranks


def join_training(device: torch.device) -> Ranks:
    """The ranks of a run, ready for collective operations."""
    ranks = join_ranks("training", device)
    if ranks.count > 1 and not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=ranks.key_value_store, rank=ranks.rank, world_size=ranks.count)
        atexit.register(dist.destroy_process_group)
    return ranks


def own_rows(rows: RowIndices, ranks: Ranks) -> RowIndices:
    """This rank's part of a batch."""
    return rows if ranks.count == 1 else parts_of(rows, parts=ranks.count)[ranks.rank]


def parts_of(rows: RowIndices, *, parts: int) -> list[RowIndices]:
    """A batch in equal parts."""
    size = len(rows) // parts
    starts = range(0, size * parts, size)
    return [
        RowIndices(SourceIndex(rows.source_B[start : start + size]), rows.views_B[start : start + size])
        for start in starts
    ]


def check_batch_size(batch_size: int, ranks: Ranks, *, parts: int = 1, views_per_image: int = 1) -> None:
    """Raises InvalidOption for a batch that doesn't fall into equal parts, each with all views of its samples."""
    divisor = ranks.count * parts * views_per_image
    if batch_size % divisor:
        shares = [f"{ranks.count} processes"] * (ranks.count > 1) + [f"{parts} parts"] * (parts > 1)
        reasons = [f"{' and '.join(shares)} share each batch in equal parts"] * bool(shares)
        reasons += [f"each sample is in it in {views_per_image} views"] * (views_per_image > 1)
        raise InvalidOption(
            f"run.batch_size = {batch_size}: {', and '.join(reasons)}. Choose a multiple of {divisor} as "
            f"`run.batch_size`."
        )


def average_gradients(parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """One exchange for all of them. Raises SoftlabError where a rank is gone, as all that follow."""
    if ranks.count == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    with _telling_of_the_lost(ranks):
        dist.all_reduce(flat)
    flat /= ranks.count
    for gradient, part in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def mean_of_ranks(value: Tensor, ranks: Ranks) -> Tensor:
    """The value itself stays as it is."""
    if ranks.count == 1:
        return value
    total = value.clone()
    with _telling_of_the_lost(ranks):
        dist.all_reduce(total)
    return total / ranks.count


def copy_first_rank(tensors: Iterable[Tensor], ranks: Ranks) -> None:
    """Give all ranks the first one's values, in place."""
    if ranks.count > 1:
        for tensor in tensors:
            with _telling_of_the_lost(ranks):
                dist.broadcast(tensor.detach(), src=0)


@contextmanager
def _telling_of_the_lost(ranks: Ranks) -> Iterator[None]:
    """The rank that failed has told why itself, unless it was killed; then one of those that are left tells that."""
    try:
        yield
    except RuntimeError as error:  # gloo's errors have no class of their own
        reason = re.sub(r"^\[.*?\] ", "", str(error).partition("\n")[0])  # without the place in gloo's own code
        raise SoftlabError(
            f"process {ranks.rank + 1} of {ranks.count}: another process of this run has ended, or can't be reached "
            f"({reason.partition('. ')[0]}). Look whether it was killed, as where the machine ran out of "
            f"memory; the same command goes on from the last checkpoint."
        ) from error
