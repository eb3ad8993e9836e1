"""Vectors as a modality: rows of a table, or windows of sensors."""

import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from blake3 import blake3

from softlab.errors import InvalidOption, StoreMismatch, suggest
from softlab.indices import RecipeIndex
from softlab.manifest import InputRecord, ViewsRecord
from softlab.modalities.inputs import Collated, Inputs
from softlab.modalities.modality import OpenDataSet
from softlab.modalities.vectors.columns import Row, problem_of, sample_of
from softlab.modalities.vectors.inputs import VectorInput
from softlab.modalities.vectors.settling import settle_columns
from softlab.modalities.views import AsTheyAre, NoViews, Replay
from softlab.sources.source import Raw

SETTLED = ("numbers", "categories", "sizes", "means", "deviations", "known")
"""Options that samples decide."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """An example holds the fields that models of a run read, as they are."""

    inputs: tuple[VectorInput, ...] = ()
    """Of all these models: a sample that one of them can't read is refused by its name."""

    seen_fields: tuple[str, ...] = ()
    """Those that the teacher reads: views are compared by them. None where that is left to the source."""

    name: ClassVar[str] = "vectors"
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    input_options: ClassVar[type[VectorInput]] = VectorInput
    view_options: ClassVar[type[NoViews]] = NoViews
    data_sets: ClassVar[Mapping[str, OpenDataSet]] = MappingProxyType({})

    @property
    def field(self) -> str:
        return self.seen_fields[0] if self.seen_fields else "numbers"

    def for_inputs(self, inputs: Sequence[VectorInput], seen: InputRecord | None) -> "Vectors":
        own = tuple(name for options in inputs for name in options.fields)
        teachers = own if seen is None else (*seen.options.get("numbers", ()), *seen.options.get("categories", ()))
        return Vectors(tuple(dict.fromkeys(inputs)), tuple(dict.fromkeys(teachers)))

    def pick(self, fields: Mapping[str, Raw], *, where: str) -> Row:
        """The fields that are read. Raises InvalidOption for one that isn't there."""
        if not self.inputs or not all(options.fields for options in self.inputs):
            return fields
        own = dict.fromkeys(name for options in self.inputs for name in options.fields)
        for name in (*own, *self.seen_fields):
            if name not in fields:
                reads = "" if name in own else ", which the teacher reads"
                raise InvalidOption(
                    f"{where}: has no field {name!r}{reads} (it has {', '.join(fields)}). {suggest(name, fields)} Name "
                    f"its column as `source.fields.{name}`, or correct `input.numbers` and `input.categories`."
                )
        return {name: fields[name] for name in dict.fromkeys([*self.seen_fields, *own])}

    def decode(self, raw: Raw | Row) -> Row:
        """Raises ValueError for a sample that one of the models can't read, with the field that is wrong."""
        row = raw if isinstance(raw, Mapping) else {self.field: raw}
        for options in self.inputs or (VectorInput(),):
            problem = problem_of(row, options)
            if problem:
                raise ValueError(problem)
        return row

    def samples_to_settle(self, options: VectorInput) -> int:
        """All of a source, so that every category is known; none where they have been looked at."""
        return 0 if options.is_settled else sys.maxsize

    def settle_input(self, options: VectorInput, raws: Iterable[Row]) -> tuple[VectorInput, str]:
        return (options, "") if options.is_settled else settle_columns(options, raws)

    def as_settled(self, options: VectorInput, record: InputRecord) -> VectorInput:
        """With the statistics of the dump that was begun, whatever the source has become. Raises StoreMismatch where
        that reads other fields, or in another way."""
        said: dict[str, Any] = {name: _plain(value) for name, value in record.options.items()}
        for name in ("numbers", "categories") * bool(options.fields) + ("layout", "standardise"):
            given, begun = getattr(options, name), said.get(name, getattr(VectorInput(), name))
            if given != begun:
                raise StoreMismatch(
                    f"input.{name} = {given}: the dump that was begun has {begun}. Say the same, or dump into another "
                    f"`out`."
                )
        return replace(options, **{name: said[name] for name in SETTLED if name in said})

    def told_anew(self, recorded: VectorInput, given: VectorInput) -> VectorInput:
        """What becomes of unseen categories may be said of each data set."""
        return recorded if given.unseen == VectorInput().unseen else replace(recorded, unseen=given.unseen)

    def reads_only_known(self, options: VectorInput) -> bool:
        """Whether a sample of another source may be refused for its category."""
        return bool(options.known) and options.unseen == "refuse"

    def model_arguments(self, options: VectorInput) -> dict[str, int]:
        """What a model that is built for this input may want to know."""
        if not options.is_settled:
            return {}
        num_channels, length = options.shape if options.layout == "channels" else (1, *options.shape)
        return {"num_inputs": num_channels * length, "num_channels": num_channels, "length": length}

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> Replay:
        return AsTheyAre(record, recipe_N=recipe_N)

    def digest(self, example: Row) -> int:
        hasher = blake3()
        for name in self.seen_fields or example:
            data = _bytes_of(example[name])
            hasher.update(struct.pack("<q", len(data))).update(data)
        return int.from_bytes(hasher.digest(8), "little")

    def collate(self, examples: Sequence[Row], options: VectorInput) -> Collated:
        """float32 [B, D], or with channels [B, C, L]."""
        if not options.is_settled:
            raise InvalidOption(
                "input.means and input.deviations: this input isn't settled. Call "
                "`softlab.modalities.modality.settle_input(options, source)` first, and use what it returns."
            )
        samples = torch.from_numpy(np.stack([sample_of(example, options) for example in examples]))
        return Collated(inputs=Inputs(positional=(samples,)))


MODALITY = Vectors()


def _plain(value: Any) -> Any:
    """JSON has lists where options have tuples."""
    return tuple(value) if isinstance(value, list) else value


def _bytes_of(raw: Raw) -> bytes:
    """Numbers as float64, whatever their type: a copy of a table may have another one."""
    if isinstance(raw, np.ndarray):
        return b"n" + np.asarray(raw, dtype="<f8").tobytes()
    return b"t" + (raw if isinstance(raw, bytes) else "\0".join([raw] if isinstance(raw, str) else raw).encode())
