"""How well whole entities are found, where classes are tags of words: B-PER I-PER O."""

# Shape letters: R rows of the words of a batch.

from collections.abc import Sequence

import torch
from torch import Tensor

from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import TAG, Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch


class EntityF1:
    """2 TP / (2 TP + FP + FN) over entities, which are right where both ends and the kind are (Tjong Kim Sang, De
    Meulder 2003). As conlleval and seqeval count them: an entity begins at a B, and at an I behind a word of no entity
    or of another kind. Words without a label are left out, of the prediction too."""

    name, label, column = "entity_f1", "F1 over entities", "entity F1"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = frozenset({"targets", "logits", "entities"})

    def __init__(self, device: torch.device) -> None:
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._all = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, outputs: Outputs, batch: Batch) -> None:
        assert batch.targets_B is not None
        assert batch.counts_B is not None
        assert outputs.class_names is not None
        device, is_known_R = batch.targets_B.device, batch.targets_B >= 0
        sample_R = torch.repeat_interleave(torch.arange(len(batch.counts_B)), batch.counts_B).to(device)[is_known_R]
        kinds = entity_kinds(outputs.class_names)
        predicted = find_entities(outputs.predicted_B[is_known_R], sample_R, kinds=kinds)
        there = find_entities(batch.targets_B[is_known_R], sample_R, kinds=kinds)
        self._right += ((predicted == there).all(dim=0) & (there[0] >= 0)).sum()
        self._all += (predicted[0] >= 0).sum() + (there[0] >= 0).sum()

    def value(self) -> float | None:
        total = int(self._all)
        return 2 * int(self._right) / total if total else None


def entity_kinds(names: Sequence[str]) -> Tensor:
    """int64 [2, C]: the number of the kind of each class, -1 of O; and 1 where an entity begins with it anyhow."""
    found = [TAG.fullmatch(name) for name in names]
    kinds = sorted({each[1] for each in found if each})
    return torch.tensor(
        [[kinds.index(each[1]) if each else -1 for each in found], [int(name.startswith("B-")) for name in names]]
    )


def find_entities(tags_R: Tensor, sample_R: Tensor, *, kinds: Tensor) -> Tensor:
    """int64 [2, R]: where an entity begins its kind, else -1; and there the row behind its last, else 0.

    `tags_R` are classes, `sample_R` ascending: no entity goes on in another sample.
    """
    kind_R, begins_R = kinds.to(tags_R.device)[:, tags_R]
    is_first_R = torch.ones_like(tags_R, dtype=torch.bool)
    is_first_R[1:] = sample_R[1:] != sample_R[:-1]
    differs_R = torch.ones_like(is_first_R)
    differs_R[1:] = kind_R[1:] != kind_R[:-1]
    is_break_R = is_first_R | differs_R | begins_R.bool()
    starts_R = is_break_R & (kind_R >= 0)
    count = len(tags_R)
    breaks_R = torch.where(is_break_R, torch.arange(count, device=tags_R.device), count)
    behind_R = torch.full_like(breaks_R, count)
    behind_R[:-1] = breaks_R[1:].flip(0).cummin(0).values.flip(0)
    return torch.stack([torch.where(starts_R, kind_R, -1), torch.where(starts_R, behind_R, 0)])
