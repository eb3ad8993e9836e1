"""How a model wants its texts, each its own way: tokenizer, length, and which fields of a sample."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from softlab.errors import InvalidOption, check_option
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

    unit: Literal["", "word"] = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """What a model of tokens has a row for: each word of a text, the parts between white space; default: no such model.

    The row is that of the word's first token, so models with other tokenizers have the same."""

    max_words: int = dataclasses.field(default=0, metadata={RECORDED_IF_OTHER: True})
    """Seek answers among so many first words of the second text, the context: models then give `start` and `end` over
    them. The same number for teacher and students; default: no answers are sought."""

    pad_token: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """What fills shorter texts of a batch, where the tokenizer doesn't say: one of its tokens."""

    candidate_fields: tuple[str, ...] = dataclasses.field(default=(), metadata={RECORDED_IF_OTHER: True})
    """The texts among which `field` is the query: one field after the other, each a text or a list of texts."""

    pair_candidates: bool = dataclasses.field(default=False, metadata={RECORDED_IF_OTHER: True})
    """Whether each candidate is read together with its query, as cross-encoders do; else each text by itself."""

    max_candidates: int | None = dataclasses.field(default=None, metadata={RECORDED_IF_OTHER: True})
    """Candidates of the query that has most: as many scores has a row. Default: counted, over the whole source."""

    relevance_field: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """A number for each candidate, 0 for one that doesn't answer the query; rankings are measured by it."""

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
        if self.unit not in ("", "word"):
            raise InvalidOption(f"input.unit = {self.unit}: is no unit of a text. Say word, or leave it out.")
        if self.pair_field and self.pair_field == self.field:
            raise InvalidOption(
                f"input.pair_field = {self.pair_field}: is the first text too. Name another field, or leave it out."
            )
        self._check_candidates()
        self._check_answers()

    def _check_answers(self) -> None:
        check_option(self.max_words >= 0, "input.max_words", self.max_words, "1 or more")
        if self.max_words and (not self.pair_field or self.truncation != "right"):
            raise InvalidOption(
                f"input.max_words = {self.max_words}: answers are sought in the first words of the second text. Name "
                f"it as `input.pair_field`, and leave `input.truncation` out."
            )

    def _check_candidates(self) -> None:
        if self.pair_field and self.candidate_fields:
            raise InvalidOption(
                "input.pair_field and input.candidate_fields: a pair has one second text, and candidates are several. "
                "Leave one of them out."
            )
        if not all(self.candidate_fields) or self.field in self.candidate_fields:
            raise InvalidOption(
                f"input.candidate_fields = {list(self.candidate_fields)}: expected fields other than the query's, "
                f"{self.field!r}. Name the query's as `input.field`."
            )
        if self.max_candidates is not None and self.max_candidates < 1:
            raise InvalidOption(f"input.max_candidates = {self.max_candidates}: leaves none. Give 1 or more.")
        named = [name for name in ("pair_candidates", "max_candidates", "relevance_field") if getattr(self, name)]
        if named and not self.candidate_fields:
            raise InvalidOption(f"input.{named[0]}: there are no candidates. Name them as `input.candidate_fields`.")

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
        """Texts that are read, in their order; the first may be empty: the only one, or `text`."""
        return (self.field, *((self.pair_field,) if self.pair_field else ()), *self.candidate_fields)
