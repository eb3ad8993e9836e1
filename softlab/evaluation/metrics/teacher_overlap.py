"""How many neighbours a model's vectors share with its teacher's."""

# Shape letters: N rows, Q of them at a time, K neighbours of each row.

import torch

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.neighbours import KeptRows, nearest, unit_rows
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch

NEIGHBOURS = 10


class TeacherOverlap:
    """Share of the 10 nearest other rows by the cosine of the teacher's vectors that are among the 10 nearest ones by
    the model's too, mean over rows. Their widths may differ."""

    name, label, column = "teacher_overlap", "shared among the 10 nearest neighbours", "overlap@10"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"teacher values", "vectors"})

    def __init__(self, device: torch.device) -> None:
        self._kept = KeptRows()

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert outputs.teacher_values is not None
        self._kept.add(batch.source_B, unit_rows(outputs.logits_BC), unit_rows(outputs.teacher_values))

    def value(self) -> float | None:
        own, theirs = self._kept.value()
        k = min(NEIGHBOURS, len(own) - 1)
        if k < 1:
            return None
        shared = [
            (own_QK[:, :, None] == their_QK[:, None, :]).any(dim=2).double().mean(dim=1)
            for own_QK, their_QK in zip(nearest(own, k=k), nearest(theirs, k=k), strict=True)
        ]
        return torch.cat(shared).mean().item()
