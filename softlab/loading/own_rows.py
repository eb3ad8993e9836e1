"""Which stored labels and which hard targets belong to the rows that a model has of a batch.

Where samples tell their units themselves, as texts their words, each model has a row for those that it has read: its
max_length may let in fewer than the teacher's, or more. What is compared are the units that both have.

    words of a text       0   1   2   3   4
    rows of the store     a   b   c   d            the teacher has read four
    rows of the model     v   w   x                the model three
    compared              va  wb  xc
"""

# Shape letters: B samples in a batch, U units of all of them, R rows of a model, S rows of the store.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.labels.on_device import copy_to
from softlab.modalities.inputs import Collated, Units
from softlab.sources.label_sequences import LabelSequences

SAMPLE = 1 << 32
"""Above every number of a unit: (sample, unit) as one number."""

OTHER_UNITS = "Let the student read the field that the teacher read, with the same `input.unit`."


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OwnRows:
    """What belongs to the rows of one model."""

    counts_B: Tensor
    """int64, always on the CPU: how many rows each sample has."""

    targets_R: Tensor | None = None
    """int64, -1 where unknown; None without hard targets."""

    stored_R: Tensor | None = None
    """int64, which of the stored rows is that of each; None where they are all of them, in their order."""

    def to(self, device: torch.device) -> "OwnRows":
        moved = {
            name: tensor.to(device, non_blocking=True)
            for name in ("targets_R", "stored_R")
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **moved)

    def pin_memory(self) -> "OwnRows":
        return self if self.targets_R is None else replace(self, targets_R=self.targets_R.pin_memory())

    def tensors(self) -> list[Tensor]:
        """All that `to` moves."""
        return [tensor for tensor in (self.targets_R, self.stored_R) if tensor is not None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredUnits:
    """Which units of their samples the stored rows of a batch are; on the CPU."""

    counts_B: Tensor
    """int64, how many rows each sample has."""

    numbers_S: Tensor
    """int64, ascending within a sample."""

    where: str
    """The store, for messages."""


def find_own_rows(
    inputs: Sequence[Collated], sequences: LabelSequences | None, source_B: Sequence[int], *, keys: Sequence[str]
) -> tuple[OwnRows | None, ...]:
    """For each input, with the hard targets of its rows: those that samples tell themselves, or else `sequences`. None
    for one without such units. Empty where none has any.

    `keys` are those of the whole source. Raises StoreMismatch for a sample with another number of hard targets than of
    units.
    """
    found = tuple(None if each.units is None else _own(each.units, sequences, source_B, keys=keys) for each in inputs)
    return found if any(each is not None for each in found) else ()


def match_rows(
    collated: Collated, own: OwnRows | None, *, stored: StoredUnits, key_of: Callable[[int], str]
) -> tuple[Collated, OwnRows | None]:
    """The input with a row for those units alone that are stored, and what belongs to these rows. `key_of`
    gives the key of a sample of the batch. Raises StoreMismatch for one that has fewer units than are stored."""
    units = collated.units
    if own is None or units is None or units.numbers_R is None:
        return collated, own
    _check_numbers(units, stored, key_of=key_of)
    ours_R, theirs_S = unit_keys(own.counts_B, units.numbers_R), unit_keys(stored.counts_B, stored.numbers_S)
    if ours_R.equal(theirs_S):
        return collated, own
    both = torch.isin(ours_R, theirs_S, assume_unique=True)
    kept_R = both.nonzero()[:, 0]
    counts_B = torch.bincount(ours_R[both] // SAMPLE, minlength=len(own.counts_B))
    device = units.keys_R.device
    kept = Units(
        rows_B=copy_to(device, counts_B),
        keys_R=units.keys_R[copy_to(device, kept_R)],
        numbers_R=units.numbers_R[kept_R],
        totals_B=units.totals_B,
        targets_R=None if units.targets_R is None else units.targets_R[kept_R],
        num_sequences=units.num_sequences,
        length=units.length,
    )
    return replace(collated, units=kept), OwnRows(
        counts_B=counts_B,
        targets_R=None if own.targets_R is None else own.targets_R[copy_to(own.targets_R.device, kept_R)],
        stored_R=copy_to(device, torch.searchsorted(theirs_S, ours_R[both])),
    )


def unit_keys(counts_B: Tensor, numbers_R: Tensor) -> Tensor:
    """int64 [R], ascending: one number for each sample and unit."""
    return torch.repeat_interleave(torch.arange(len(counts_B)), counts_B) * SAMPLE + numbers_R


def _own(
    units: Units, sequences: LabelSequences | None, source_B: Sequence[int], *, keys: Sequence[str]
) -> OwnRows | None:
    if units.numbers_R is None or units.totals_B is None:
        return None
    if sequences is None or units.targets_R is not None:
        return OwnRows(counts_B=units.rows_B, targets_R=units.targets_R)
    targets_U = _targets(sequences, source_B, units.totals_B, keys=keys)
    first_B = units.totals_B.cumsum(0) - units.totals_B
    return OwnRows(
        counts_B=units.rows_B,
        targets_R=targets_U[torch.repeat_interleave(first_B, units.rows_B) + units.numbers_R],
    )


def _targets(sequences: LabelSequences, source_B: Sequence[int], totals_B: Tensor, *, keys: Sequence[str]) -> Tensor:
    """int64 [U], of all units of the samples, those without a row too."""
    found = []
    for index, total in zip(source_B, totals_B.tolist(), strict=True):
        targets = sequences.of(index)
        if targets is not None and len(targets) != total:
            raise StoreMismatch(
                f"sample {keys[index]!r}: has {len(targets):,} labels for {total:,} units. Give one for each frame of "
                f"a clip, or for each part of a text between white space, empty where a word has none, or the words "
                f"themselves as a list."
            )
        found.append(torch.full((total,), -1) if targets is None else torch.from_numpy(targets))
    return torch.cat(found)


def _check_numbers(units: Units, stored: StoredUnits, *, key_of: Callable[[int], str]) -> None:
    assert units.totals_B is not None, "they have numbers"
    sample_S = torch.repeat_interleave(torch.arange(len(stored.counts_B)), stored.counts_B)
    last_B = torch.full_like(stored.counts_B, -1).scatter_reduce_(0, sample_S, stored.numbers_S, "amax")
    wrong_B = (last_B >= units.totals_B).nonzero()[:, 0]
    if len(wrong_B):
        place = int(wrong_B[0])
        raise StoreMismatch(
            f"{stored.where}: sample {key_of(place)!r} has units up to number {int(last_B[place]) + 1:,} there, and "
            f"what the student reads has {int(units.totals_B[place]):,}. {OTHER_UNITS}"
        )
