"""Measure a model on a source, and against its teacher where a store holds what the teacher said about it."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from softlab.labels.losses import kl_rows
from softlab.loading.batches import Batch, BatchLoader
from softlab.loading.order import in_sequence

Forward = Callable[[Batch], Tensor]
"""From a batch to logits [B, C]; the model behind it is in eval mode."""

BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Means over the rows of a source; None where the source or the store can't tell."""

    rows: int
    accuracy: float | None
    """Share of rows with a known target whose largest logit is at it."""

    teacher_agreement: float | None
    """Share of rows whose largest logit is where the teacher's is."""

    teacher_kl: float | None
    """KL(teacher || model) in nats, the teacher's tail shared equally; at temperature 1, or at the smallest stored
    one where that is higher."""


@torch.inference_mode()
def evaluate(
    forwards: Mapping[str, Forward], loader: BatchLoader, *, batch_size: int = BATCH_SIZE, channels_last: bool = False
) -> dict[str, Evaluation]:
    """Run some models over every sample of a source, in one pass over it."""
    aligned = loader.aligned
    totals = {name: torch.zeros(5, dtype=torch.float64) for name in forwards}
    for batch in loader.load(in_sequence(0, len(aligned.source), batch_size=batch_size)):
        on_device = batch.to(loader.device, channels_last=channels_last)
        for name, forward in forwards.items():
            totals[name] += _totals(forward(on_device).float(), on_device).cpu()
    return {name: _means(values, has_teacher=aligned.store is not None) for name, values in totals.items()}


def _means(totals: Tensor, *, has_teacher: bool) -> Evaluation:
    rows, hits, with_target, agreed, divergence = totals.tolist()
    return Evaluation(
        rows=int(rows),
        accuracy=hits / with_target if with_target else None,
        teacher_agreement=agreed / rows if has_teacher else None,
        teacher_kl=divergence / rows if has_teacher else None,
    )


def _totals(logits_BC: Tensor, batch: Batch) -> Tensor:
    """Rows, hits, rows with a target, agreements with the teacher, summed KL; one small tensor to copy back."""
    predicted_B = logits_BC.argmax(dim=1)
    totals = torch.zeros(5, device=logits_BC.device)
    totals[0] = len(batch)
    if batch.targets_B is not None:
        totals[1] = (predicted_B == batch.targets_B).sum()
        totals[2] = (batch.targets_B >= 0).sum()
    if batch.labels is not None:
        totals[3] = (predicted_B == batch.labels.class_ids_BK[:, 0]).sum()
        temperature = max(1.0, batch.labels.temperatures[0])
        totals[4] = kl_rows(logits_BC, batch.labels, temperature=temperature).sum()
    return totals
