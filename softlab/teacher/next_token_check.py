"""Is a row of a language model's output about the token that it is taken to be about? Off by one, labels look as good
as ever and teach nothing. The teacher's most probable token tells: it is the one that follows far more often than
another one near it. For SmolLM2-135M on English text it is in 39 % of rows, and at other distances in 3.4 % at most."""

# Shape letters: R rows of all samples.

import torch
from torch import Tensor

from softlab.errors import TeacherError
from softlab.teacher.forward import TeacherOutput

FEWEST_ROWS = 64

NEAR = (-2, -1, 1, 2)
"""Distances, in rows of the same sample, at which the most probable token is looked for too."""

SHIFTED = "not one whose logits are shifted already"
REPEATS = (
    "not one that repeats the token it has read, as with weights that were never trained and an output layer that is "
    "its embedding"
)

CLEARLY = 2.0
"""By how many times a wrong distance must be hit more often."""


def check_next_tokens(output: TeacherOutput) -> None:
    """Raises TeacherError where the teacher's most probable token is the one at another place far more often."""
    targets_R, counts_B = output.targets_R, output.counts_B
    if targets_R is None or counts_B is None or len(targets_R) < FEWEST_ROWS:
        return
    sample_R = torch.arange(len(counts_B)).repeat_interleave(counts_B.cpu())
    for name, labels in output.labels.items():
        top_R = labels.class_ids_BK[:, 0].cpu()
        share = {distance: _share(top_R, targets_R, sample_R, distance) for distance in (0, *NEAR)}
        best = max(NEAR, key=lambda distance: share[distance])
        if share[best] > CLEARLY * share[0] + FEWEST_ROWS / len(targets_R) / 4:
            rows = f"{abs(best)} row{'s' if abs(best) > 1 else ''} {'behind' if best > 0 else 'before'} it"
            raise TeacherError(
                f"output {name}: its most probable token is the one that follows in {share[0]:.1%} of the rows, and "
                f"the one {rows} in {share[best]:.1%}: it seems to be about another token than the next. Give a model "
                f"whose output at token t is about token t + 1, {REPEATS if best == -1 else SHIFTED}."
            )


def _share(top_R: Tensor, targets_R: Tensor, sample_R: Tensor, distance: int) -> float:
    """Of the rows whose most probable token is the target of the row at this distance, in the same sample."""
    first, behind = max(-distance, 0), len(top_R) - max(distance, 0)
    rows, others = slice(first, behind), slice(first + distance, behind + distance)
    is_same_sample = sample_R[rows] == sample_R[others]
    hits = (top_R[rows] == targets_R[others]) & is_same_sample
    return float(hits.sum() / is_same_sample.sum().clamp(min=1))
