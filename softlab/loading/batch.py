"""One aligned batch: the inputs of models for some samples, with their hard targets and soft labels."""

# Shape letters: B rows in a batch.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from softlab.labels.losses.hard import UNKNOWN_TARGET
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.head_rows import HeadRows
from softlab.loading.mixed_targets import MixedTargets
from softlab.loading.own_rows import OwnRows, match_rows
from softlab.loading.stored import Stored
from softlab.modalities.answers import AnsweredText
from softlab.modalities.inputs import Collated


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """B views, each of one sample of a source."""

    source_B: Tensor
    """int64, where the samples stand in the source."""

    views_B: Tensor
    """int64, which view of each sample."""

    inputs: tuple[Collated, ...]
    """Of B samples each: what models are called with, one for each distinct input of the run."""

    content_hashes: tuple[bytes, ...]
    view_digests: tuple[int, ...] = ()
    """Of those views whose digest a store keeps."""

    targets_B: Tensor | None = None
    """int64; -1 where unknown. With units that have hard targets [R], of the rows of one model: see `for_input`."""

    label_sets_BC: Tensor | None = None
    """int8, of samples that may be of several classes: 1 for each, else 0; a row of -1 where unknown."""

    answers: tuple[AnsweredText, ...] = ()
    """Of models that seek an answer in a text: these, and what is right. `targets_B` then has a row for each output."""

    mixed: MixedTargets | None = None
    """Where views are mixed and targets known."""

    labels: SoftLabels | None = None
    others: tuple[SoftLabels, ...] = ()
    """Of further teachers, in the order of their stores."""

    features: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the teachers, float32 [B, ...] by name; those that were asked for."""

    own: tuple[OwnRows | None, ...] = ()
    """For each input, where samples tell their units themselves; see `for_input`."""

    counts_B: Tensor | None = None
    """int64, on the CPU: how many rows each sample has, where samples tell their units; see `for_input`."""

    heads: Mapping[str, HeadRows] = field(default_factory=dict)
    """Of models with several heads, by their names; see `of_head`."""

    def __len__(self) -> int:
        return len(self.source_B)

    def to(self, device: torch.device, *, channels_last: bool = False) -> "Batch":
        """Inputs, targets and labels on a device; copies from pinned memory don't wait."""
        if all(each.is_on(device, channels_last=channels_last) for each in self.inputs):
            return self
        return replace(
            self,
            inputs=tuple(each.to(device, channels_last=channels_last) for each in self.inputs),
            targets_B=None if self.targets_B is None else self.targets_B.to(device, non_blocking=True),
            label_sets_BC=None if self.label_sets_BC is None else self.label_sets_BC.to(device, non_blocking=True),
            mixed=None if self.mixed is None else self.mixed.to(device),
            own=tuple(None if each is None else each.to(device) for each in self.own),
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
            others=tuple(labels.to(device, non_blocking=True) for labels in self.others),
            features={name: feature.to(device, non_blocking=True) for name, feature in self.features.items()},
            heads={name: rows.to(device) for name, rows in self.heads.items()},
        )

    def of_head(self, name: str) -> "Batch":
        """The same batch as a model would have it whose only output is this head."""
        rows = self.heads[name]
        return replace(
            self,
            targets_B=rows.targets_B,
            mixed=rows.mixed,
            labels=rows.labels,
            others=(),
            features=rows.features,
            heads={},
        )

    def read_by(self, input_index: int) -> "Batch":
        """The same batch for models of one of its inputs: what these can't have read, as a text is cut off, is no hard
        target for them."""
        classes_B = self.inputs[input_index].classes_B if self.answers else None
        if classes_B is None or self.targets_B is None:
            return self
        is_read_R = self.targets_B < classes_B.repeat_interleave(len(self.targets_B) // len(classes_B))
        return replace(self, targets_B=self.targets_B.masked_fill(~is_read_R, UNKNOWN_TARGET))

    def with_rows(self, rows: slice) -> "Batch":
        """The same batch with the hard targets and labels of some of its rows alone, one a sample, and no answers."""
        labels = None if self.labels is None else self.labels.with_each(lambda tensor: tensor[rows])
        return replace(
            self,
            targets_B=None if self.targets_B is None else self.targets_B[rows],
            labels=None if labels is None else replace(labels, counts_B=None),
            others=(),
            answers=(),
        )

    def with_stored(self, stored: Stored, *, keys: Sequence[str] = ()) -> "Batch":
        """The same batch with the outputs of its teachers. `keys` are those of the source, for messages. Raises
        StoreMismatch where more units of a sample are stored than it has."""
        first, *others = stored.labels or (None,)
        batch = replace(self, labels=first, others=tuple(others), features=stored.features)
        if stored.units is None or not self.own:
            return batch

        def key_of(place: int) -> str:
            return keys[int(self.source_B[place])]

        pairs = [
            match_rows(each, own, stored=stored.units, key_of=key_of)
            for each, own in zip(self.inputs, self.own, strict=True)
        ]
        return replace(batch, inputs=tuple(each for each, _ in pairs), own=tuple(own for _, own in pairs))

    def with_stored_heads(self, stored: Mapping[str, Stored]) -> "Batch":
        """The same batch with what the teacher of each head gave."""
        return replace(self, heads={name: rows.with_stored(stored[name]) for name, rows in self.heads.items()})

    def for_input(self, index: int) -> "Batch":
        """The batch of a model with this input. Where samples tell their units, its rows are those that the model and
        the store both have; labels and hard targets are of these, in this order."""
        own = self.own[index] if self.own else None
        if own is None:
            return self
        labels = (self.labels, *self.others)
        if own.stored_R is not None:
            labels = tuple(
                None if each is None else each.at_rows(own.stored_R, counts_B=own.counts_B) for each in labels
            )
        first, *others = labels
        return replace(
            self,
            targets_B=own.targets_R,
            labels=first,
            others=tuple(each for each in others if each is not None),
            counts_B=own.counts_B,
            own=(),
        )

    def pin_memory(self) -> "Batch":
        """Inputs and targets in page-locked memory; torch's loaders call this by its name."""
        return replace(
            self,
            inputs=tuple(each.pin_memory() for each in self.inputs),
            targets_B=None if self.targets_B is None else self.targets_B.pin_memory(),
            label_sets_BC=None if self.label_sets_BC is None else self.label_sets_BC.pin_memory(),
            mixed=None if self.mixed is None else self.mixed.pin_memory(),
            own=tuple(None if each is None else each.pin_memory() for each in self.own),
            heads={name: rows.pin_memory() for name, rows in self.heads.items()},
        )

    def device_tensors(self) -> Iterator[Tensor]:
        """All that `to` moves."""
        for each in self.inputs:
            yield from each.tensors()
        if self.targets_B is not None:
            yield self.targets_B
        if self.label_sets_BC is not None:
            yield self.label_sets_BC
        if self.mixed is not None:
            yield from (self.mixed.targets_B, self.mixed.weights_B)
        for own in self.own:
            if own is not None:
                yield from own.tensors()
        for labels in (self.labels, *self.others):
            if labels is not None:
                yield from labels.tensors()
        yield from self.features.values()
        for rows in self.heads.values():
            yield from rows.tensors()
