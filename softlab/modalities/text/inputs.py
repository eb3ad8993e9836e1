"""How a model wants its texts, each its own way: tokenizer, length, and which fields of a sample."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from softlab.errors import InvalidOption
from softlab.modalities.inputs import RECORDED_IF_OTHER
from softlab.modalities.text.spans import OUTPUTS

TRAIN = "train:"
"""What a tokenizer begins with that is to be trained on the source."""

SMALLEST_VOCABULARY = 16
"""Four tokens are special."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    """How a model wants its texts: tokenizer, length, and which fields of a sample."""

    modality: ClassVar[str] = "text"

    tokenizer: str = ""
    """A folder, a tokenizer.json, a name on Hugging Face's hub, or train:VOCAB_SIZE.

    The last is trained on the source, and kept with the weights; default: that of an hf: model."""

    max_length: int | None = None
    """Tokens that are let in, special ones included; the rest is cut off.

    Default: as many as the tokenizer says, else 512."""

    truncation: Literal["right", "left"] = "right"
    """Which end is cut off."""

    field: str = ""
    """Which field of a sample is read; default: the only one, or `text`."""

    pair_field: str = ""
    """The second text of a pair; default: single texts."""

    max_words: int = dataclasses.field(default=0, metadata={RECORDED_IF_OTHER: True})
    """Seek answers among so many first words of the second text, the context: models then give `start` and `end` over
    them. The same number for teacher and students; default: no answers are sought."""

    pad_token: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """What fills shorter texts of a batch, where the tokenizer doesn't say: one of its tokens."""

    same_tokenizer: bool = dataclasses.field(default=False, metadata={RECORDED_IF_OTHER: True})
    """Refuse another tokenizer than the teacher's: for a student that begins with its embeddings."""

    identity: str = ""
    """BLAKE3 of what the tokenizer does; another one is refused. softlab fills it in."""

    trained: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """A tokenizer that was trained on a source. softlab fills it in."""

    def __post_init__(self) -> None:
        if self.tokenizer.startswith(TRAIN) and self.vocabulary < SMALLEST_VOCABULARY:
            raise InvalidOption(
                f"input.tokenizer = {self.tokenizer}: expected a number of tokens, {SMALLEST_VOCABULARY} or more. Say "
                f"it as in `input.tokenizer = train:6000`."
            )
        if self.max_length is not None and self.max_length < 1:
            raise InvalidOption(f"input.max_length = {self.max_length}: lets no token in. Give 1 or more.")
        if self.truncation not in ("right", "left"):
            raise InvalidOption(f"input.truncation = {self.truncation}: is no side of a text. Say right or left.")
        if self.pair_field and self.pair_field == self.field:
            raise InvalidOption(
                f"input.pair_field = {self.pair_field}: is the first text too. Name another field, or leave it out."
            )

        if self.max_words < 0:
            raise InvalidOption(f"input.max_words = {self.max_words}: expected 1 or more. Change `input.max_words`.")
        if self.max_words and (not self.pair_field or self.truncation != "right"):
            raise InvalidOption(
                f"input.max_words = {self.max_words}: answers are sought in the first words of the second text. Name "
                f"it as `input.pair_field`, and leave `input.truncation` out."
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """What models give together, each over the same classes; none where they give logits alone."""
        return OUTPUTS if self.max_words else ()

    @property
    def num_classes(self) -> int | None:
        """Of these outputs; None where there are none."""
        return 1 + self.max_words if self.max_words else None

    @property
    def vocabulary(self) -> int:
        """How many tokens are to be trained; 0 where none are, or that isn't a number."""
        number = self.tokenizer.removeprefix(TRAIN)
        return int(number) if self.tokenizer.startswith(TRAIN) and number.isdecimal() else 0

    @property
    def fields(self) -> tuple[str, ...]:
        """Those that are read, in their order; the first may be empty: the only one, or `text`."""
        return (self.field, self.pair_field) if self.pair_field else (self.field,)
