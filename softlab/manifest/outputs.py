"""What a manifest says of the teacher's outputs: soft labels over classes, and values as they are."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from softlab.labels.values_coding import ValuesCoding
from softlab.manifest.value_types import Count, Fingerprint, OutputName, Positive, Record, Temperature


class LabelSpaceRecord(Record, frozen=True, kw_only=True):
    num_classes: Positive
    class_names: tuple[str, ...] | None
    fingerprint: Fingerprint


class SelectionRecord(Record, frozen=True, kw_only=True, tag_field="method", tag="topk"):
    """The K largest logits of each row, and the exact tail at some temperatures."""

    k: Positive
    temperatures: Annotated[tuple[Temperature, ...], Meta(min_length=1, max_length=64)]

    @property
    def in_words(self) -> str:
        return f"K={self.k}"

    @property
    def kept(self) -> str:
        return f"{self.k:,} largest logits"


class SampledRecord(Record, frozen=True, kw_only=True, tag_field="method", tag="sampled"):
    """Each class of probability 1 / resolution or more, and an unbiased sample of the others; at temperature 1."""

    resolution: Annotated[int, Meta(ge=1, le=254)]

    @property
    def k(self) -> int:
        """The most entries that a row may have."""
        return self.resolution + 1

    @property
    def temperatures(self) -> tuple[float, ...]:
        return (1.0,)

    @property
    def in_words(self) -> str:
        return f"sampled at 1/{self.resolution}"

    @property
    def kept(self) -> str:
        return f"classes of probability 1/{self.resolution} or more and a sample of the others"


Selection = SelectionRecord | SampledRecord


class CodingRecord(Record, frozen=True, kw_only=True):
    logits: Literal["float32", "float16", "uint8"]
    gap_step: Annotated[float, Meta(gt=0, le=64)] | None
    """uint8 only: nats for one step of a gap between successive logits."""

    frequent: Annotated[tuple[Count, ...], Meta(max_length=1 << 16)] | UnsetType = UNSET
    """Of sampled rows: class ids that occur often, the most frequent first. A stored id is a rank among these, and
    behind them among all others by id. A manifest says nothing where ids are stored as they are."""

    gaps_first: bool | UnsetType = UNSET
    """Of sampled rows: the gaps of a sample's rows stand in front of its entries' places, and what is left of these is
    0. A manifest says nothing where each gap stands in the place of its entry."""


class ClassesRecord(Record, frozen=True, kw_only=True, tag_field="kind", tag="classes"):
    """An output that is logits over classes: its largest ones are stored, and the exact tail."""

    name: OutputName
    taken_from: str
    """Where in the model: `output` for the only one, the name of a field of what it returns, or `layer:NAME`."""

    head: Literal["softmax", "sigmoid"] = "softmax"
    """How logits become probabilities: of one class among all, or of each class by itself (multi-label)."""

    label_space: LabelSpaceRecord
    selection: Selection
    coding: CodingRecord
    absolute: bool = True
    """Whether logits have a level of their own. False where only probabilities were known."""

    interpolates: bool | UnsetType = UNSET
    """False where tails are known at the stored temperatures alone; a manifest says nothing where they can be told
    between them."""

    units: bool = False
    """Whether there is a row for each unit of a sample (a position, a token, a frame), and not one a sample."""

    valid: bool = False
    """Whether rows may have fewer classes: then `valid` says how many each has, the first ones."""

    masked: bool | UnsetType = UNSET
    """Whether those may be any classes: then `valid_bits` says which ones. A manifest says nothing where not."""

    @property
    def in_a_line(self) -> str:
        """`K=16 of 1000, softmax`."""
        return f"{self.selection.in_words} of {self.label_space.num_classes}, {self.head}"

    @property
    def is_sampled(self) -> bool:
        """Whether its rows are samples of their distribution, and so have entries of their own number."""
        return isinstance(self.selection, SampledRecord)


class ValuesRecord(Record, frozen=True, kw_only=True, tag_field="kind", tag="values"):
    """An output that is stored as it is: a feature, an embedding, scores; one vector or map a row."""

    name: OutputName
    taken_from: str
    """As in `ClassesRecord`; a layer's with its pooling, `layer:NAME:mean`."""

    units: bool = False

    other_coding: Literal["float32", "int8", "int8_rotated"] | UnsetType = msgspec.field(name="coding", default=UNSET)
    """What the manifest says as `coding`. It says nothing where that is float16, as before there was a choice."""

    @property
    def coding(self) -> ValuesCoding:
        """How numbers are stored; of int8 each row has a scale."""
        return "float16" if self.other_coding is UNSET else self.other_coding


class TokensReadRecord(Record, frozen=True, kw_only=True, tag_field="kind", tag="tokens"):
    """What the teacher has read, so that a store is complete by itself: the ids of the tokens of each sample."""

    name: OutputName
    vocabulary: Positive
    """Above every id."""

    most: Positive
    """Tokens of a sample."""

    units = False
    """Tokens without a row are read too, such as those of a prompt."""


OutputRecord = ClassesRecord | ValuesRecord | TokensReadRecord
