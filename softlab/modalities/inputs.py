"""What a model is called with, for one batch of samples."""

# Shape letters: B samples in a batch, R rows of all these samples.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from softlab.manifest import TokensRecord

RECORDED_ELSEWHERE = "recorded elsewhere"
"""Metadata of a field of input options that says how a field of a sample is decoded, not what a model is given."""

RECORDED_IF_OTHER = "recorded if other"
"""Metadata of a field of input options that is recorded where it isn't the default, once the only way there was."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inputs:
    """Arguments of a model's forward pass. The first tensor has one row a sample, unless samples share rows."""

    positional: "tuple[Tensor, ...]" = ()
    named: "Mapping[str, Tensor]" = field(default_factory=dict)
    num_samples: int | None = None
    """Where several samples share a row of the tensors; else None, or as many as rows."""

    def __len__(self) -> int:
        return len(next(self.tensors())) if self.num_samples is None else self.num_samples

    def tensors(self) -> "Iterator[Tensor]":
        yield from self.positional
        yield from self.named.values()

    def to(self, device: "torch.device", *, channels_last: bool = False) -> "Inputs":
        """The same on a device; `channels_last` is the memory order of the tensors with four axes. Copies from pinned
        memory don't wait."""
        return replace(
            self,
            positional=tuple(_moved(tensor, device, channels_last) for tensor in self.positional),
            named={name: _moved(tensor, device, channels_last) for name, tensor in self.named.items()},
        )

    def pin_memory(self) -> "Inputs":
        """The same in page-locked memory."""
        return replace(
            self,
            positional=tuple(tensor.pin_memory() for tensor in self.positional),
            named={name: tensor.pin_memory() for name, tensor in self.named.items()},
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InputBounds:
    """What the numbers of a model's input may be, for attacks, which change them; each tensor is broadcast against a
    sample."""

    lowest: "Tensor"
    highest: "Tensor"

    unit: "Tensor"
    """How much a change by 1 in the data is here: of images, whose pixels are 0 to 1, 1 / std."""

    def to(self, device: "torch.device") -> "InputBounds":
        return InputBounds(lowest=self.lowest.to(device), highest=self.highest.to(device), unit=self.unit.to(device))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Units:
    """Where an output has several rows a sample: which of them count."""

    rows_B: "Tensor"
    """int64, how many rows each sample has."""

    keys_R: "Tensor"
    """int64, where each row lies in the model's output, flattened."""

    numbers_R: "Tensor | None" = None
    """int64, always on the CPU: which unit of its sample each row is, ascending, where the sample itself tells its
    units, as a text its words: then models with other inputs have the same. None where it is the row's position."""

    totals_B: "Tensor | None" = None
    """int64, always on the CPU: how many such units each sample has, those without a row too."""

    targets_R: "Tensor | None" = None
    """int64, always on the CPU: the class that each row is right to tell, where the sample itself says it, as a token
    the one behind it."""

    num_sequences: int | None = None
    """How many rows the tensors of a model have, where samples may share one; None for one a sample."""

    length: int | None = None
    """Positions of each of them that `keys_R` counts by, where it isn't the model that tells it."""

    @classmethod
    def numbered(
        cls, numbers: "Sequence[Tensor]", positions: "Sequence[Tensor]", *, totals: Sequence[int], length: int
    ) -> "Units":
        """Of samples that number their own units: of each row the unit, and its position among `length` in the model's
        output of that sample."""
        import torch  # here, as in _memory_format

        return cls(
            rows_B=torch.tensor([len(each) for each in numbers]),
            keys_R=torch.cat([each + place * length for place, each in enumerate(positions)]),
            numbers_R=torch.cat(list(numbers)),
            totals_B=torch.tensor(totals),
            length=length,
        )

    def to(self, device: "torch.device") -> "Units":
        return replace(
            self,
            rows_B=self.rows_B.to(device, non_blocking=True),
            keys_R=self.keys_R.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "Units":
        return replace(self, rows_B=self.rows_B.pin_memory(), keys_R=self.keys_R.pin_memory())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Collated:
    """Some samples as one input of a model."""

    inputs: Inputs
    units: Units | None = None
    """None where an output has one row a sample."""

    cut_off: int | None = None
    """How many of the samples were longer than the input, and lost their end; None where a sample has no length."""

    tokens: "TokensRecord | None" = None
    """How many of their tokens are here, and how many were cut off; None where samples aren't made of tokens."""

    token_ids_E: "Tensor | None" = None
    """int64, always on the CPU: the tokens of all samples, one behind the other, `token_counts_B` of each, where these
    alone tell a student what was read; None where they don't."""

    token_counts_B: "Tensor | None" = None

    relevance_BN: "Tensor | None" = None
    """float32, of samples whose classes are candidates: 0 or more, how well each of them answers the query, NaN where a
    sample has none; None where nobody says it."""

    outputs: "tuple[str, ...]" = ()
    """What models of this input give together, each a row of its sample over the same classes; none where they give
    logits alone."""

    classes_B: "Tensor | None" = None
    """int64, how many classes each sample has as these models read it, the first ones; None where all have all."""

    def __len__(self) -> int:
        return len(self.inputs)

    def tensors(self) -> "Iterator[Tensor]":
        """All that `to` moves."""
        yield from self.inputs.tensors()
        if self.units is not None:
            yield from (self.units.rows_B, self.units.keys_R)
        if self.relevance_BN is not None:
            yield self.relevance_BN
        if self.classes_B is not None:
            yield self.classes_B

    def to(self, device: "torch.device", *, channels_last: bool = False) -> "Collated":
        return replace(
            self,
            inputs=self.inputs.to(device, channels_last=channels_last),
            units=None if self.units is None else self.units.to(device),
            relevance_BN=None if self.relevance_BN is None else self.relevance_BN.to(device, non_blocking=True),
            classes_B=None if self.classes_B is None else self.classes_B.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "Collated":
        return replace(
            self,
            inputs=self.inputs.pin_memory(),
            units=None if self.units is None else self.units.pin_memory(),
            relevance_BN=None if self.relevance_BN is None else self.relevance_BN.pin_memory(),
            classes_B=None if self.classes_B is None else self.classes_B.pin_memory(),
        )

    def is_on(self, device: "torch.device", *, channels_last: bool) -> bool:
        """Whether `to` would change nothing."""
        return all(
            tensor.device == device and tensor.is_contiguous(memory_format=_memory_format(tensor, channels_last))
            for tensor in self.tensors()
        )


def _moved(tensor: "Tensor", device: "torch.device", channels_last: bool) -> "Tensor":
    return tensor.to(device, non_blocking=True, memory_format=_memory_format(tensor, channels_last))


def _memory_format(tensor: "Tensor", channels_last: bool) -> "torch.memory_format":
    import torch  # here, because options name the classes of this file, and most commands start without it

    return torch.channels_last if channels_last and tensor.ndim == 4 else torch.contiguous_format
