"""Some samples of a store and what the teacher said of them, by the names of the classes: for people to look at."""

# Shape letters: S samples looked at, R rows, K entries kept.

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.labels.soft_labels import SoftLabels
from softlab.store.reader import Store

TOP = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LikelyClass:
    """One of the classes that were kept."""

    class_id: int
    name: str | None
    """None where the store has no names."""

    probability: float

    def __str__(self) -> str:
        return f"{f'class {self.class_id}' if self.name is None else self.name} {self.probability:.3f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRow:
    """A sample, and what the teacher said of it; of several units the first one."""

    index: int
    """In the store."""

    key: str
    content_hash: bytes
    target: int | None
    """The hard target; None where there is none."""

    target_name: str | None
    """None where targets have no names, or count other classes than the teacher's."""

    classes: tuple[LikelyClass, ...]
    """The most probable ones first."""

    tail: float
    """Probability of all classes that were not kept, or of sampled rows that were drawn; under a sigmoid head the mean
    one."""

    temperature: float
    """Of these probabilities: 1, or the lowest one that is stored."""

    unit: int | None
    """Which position of the sample this is, where a sample has several rows."""

    @property
    def confidence(self) -> float:
        return self.classes[0].probability


def sample_rows(store: Store, count: int = 8, *, top: int = TOP, view: int = 0) -> list[SampleRow]:
    """Samples spread evenly over a store, with their most probable classes by name.

        for row in softlab.sample_rows(softlab.open_store("runs/pets.zarr"), 8):
            print(row.key, row.target_name, *row.classes, row.tail)

    Samples without any row are left out. Raises InvalidOption for less than one sample or class, and as `Store.read`.
    """
    if count < 1 or top < 1:
        raise InvalidOption(f"{count} rows of {top} classes: expected 1 or more of each. Ask for 8 rows of 3 classes.")
    spread_S = np.linspace(0, store.num_samples - 1, min(count, store.num_samples)).astype(np.int64)
    counts_S = store.counts(spread_S)
    if counts_S is not None:
        spread_S = spread_S[counts_S > 0]
    if not len(spread_S):
        return []
    table = store.read_samples_at(spread_S)
    first_S = _first_rows(store.counts(spread_S), len(spread_S))
    units_R = store.read_units(spread_S)
    labels = store.read(spread_S, view=view)
    temperature = 1.0 if 1.0 in labels.temperatures else labels.temperatures[0]
    probability_RK, tail_R = _probabilities(labels, temperature=temperature)
    num_head_R = store.read_head_sizes(spread_S, view=view)
    if num_head_R is not None:
        probability_RK, tail_R = _head(labels, num_head_R)
    return [
        SampleRow(
            index=sample,
            key=table.keys[place],
            content_hash=table.content_hashes[place],
            target=(target := _target(table.targets_N, place)),
            target_name=_target_name(store, target),
            classes=tuple(
                LikelyClass(class_id=class_id, name=_name(store.class_names, class_id), probability=probability)
                for class_id, probability in zip(
                    labels.class_ids_BK[row, :top].tolist(), probability_RK[row, :top].tolist(), strict=True
                )
                if probability > 0 or not labels.is_sampled
            ),
            tail=float(tail_R[row]),
            temperature=temperature,
            unit=None if units_R is None else int(units_R[row]),
        )
        for place, (sample, row) in enumerate(zip(spread_S.tolist(), first_S.tolist(), strict=True))
    ]


def _first_rows(counts_S: NDArray[np.int64] | None, num_samples: int) -> NDArray[np.int64]:
    """Where the rows of each sample begin."""
    return np.arange(num_samples) if counts_S is None else np.cumsum(counts_S) - counts_S


def _probabilities(labels: SoftLabels, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Of the kept classes and of the tail, float64."""
    tail_R = labels.log_tail_at(temperature).double().exp()
    if labels.head == "sigmoid":
        raw_RK = labels.logits_BK.double() + labels.max_logit_B.double()[:, None]
        return (raw_RK / temperature).sigmoid(), tail_R
    share_RK = (labels.logits_BK.double() / temperature).softmax(dim=1)
    return share_RK * (1 - tail_R)[:, None], torch.as_tensor(tail_R)


def _head(labels: SoftLabels, num_head_R: Tensor) -> tuple[Tensor, Tensor]:
    """The same of sampled rows: 0 for classes that were drawn, whose own probability isn't known."""
    weight_RK = (labels.logits_BK.double() + labels.max_logit_B.double()[:, None]).exp()
    is_head_RK = torch.arange(labels.k) < num_head_R[:, None]
    return weight_RK.where(is_head_RK, 0), weight_RK.masked_fill(is_head_RK, 0).sum(dim=1)


def _target(targets_S: NDArray[np.int64] | None, place: int) -> int | None:
    return None if targets_S is None or targets_S[place] < 0 else int(targets_S[place])


def _target_name(store: Store, target: int | None) -> str | None:
    """Targets that the teacher's accuracy wasn't measured on may count other classes."""
    return None if target is None or not store.statistics.rows_with_target else _name(store.class_names, target)


def _name(names: tuple[str, ...] | None, class_id: int) -> str | None:
    return None if names is None or class_id >= len(names) else names[class_id]
