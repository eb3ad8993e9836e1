"""How a causal language model wants its documents or chats: tokenizer, context, and which tokens are learnt."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from softlab.errors import InvalidOption
from softlab.modalities.inputs import RECORDED_IF_OTHER
from softlab.modalities.text.inputs import TextInput

STORED_FIELD = "tokens"
"""Of a sample that is known by the ids of its tokens, as a store holds them."""

LEARNT_FIELD = "learnt"
"""Beside it: which tokens are learnt, a 1 or 0 for each, where that isn't all of them."""

SHORTEST = 2
"""A token's row tells the one behind it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokensInput:
    """How a causal language model wants its documents or chats. A student reads the same tokens as its teacher."""

    modality: ClassVar[str] = "tokens"

    tokenizer: str = ""
    """A folder, a tokenizer.json, a name on Hugging Face's hub, or train:VOCAB_SIZE.

    The last is trained on the source, and kept with the weights; default: that of an hf: model."""

    max_length: int | None = None
    """Tokens of a sample that are read, the context; the rest is cut off.

    Default: as many as the tokenizer says, else 512."""

    truncation: Literal["right", "left"] = "right"
    """Which end is cut off; special tokens in front stay."""

    field: str = ""
    """Which field of a sample is the document; default: the only one, or `text`."""

    prompt_field: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """What stands in front of the document, as it is, and isn't learnt."""

    messages_field: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """The turns of a chat, in place of a document: a list of {role, content}, or its JSON text. The tokenizer's own
    template writes them."""

    loss_on: Literal["", "all", "completion"] = ""
    """Which tokens are learnt: all, or of a chat those of the assistant's turns, and of a document those behind the
    prompt. Others have no row, and cost nothing; default: completion with a `prompt_field`, else all."""

    add_special_tokens: bool = True
    """Whether a document gets what the tokenizer adds by itself, such as a token in front. A chat has what its template
    writes."""

    pack: bool = dataclasses.field(default=False, metadata={RECORDED_IF_OTHER: True})
    """Whether samples of a batch share sequences of `max_length` tokens, each seeing itself alone: less is filled up,
    and rows are the same. For models that take `position_ids`; one that then mixes samples is refused."""

    template_date: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """What a chat template that writes the day's date writes in its place, such as 26 Jul 2024."""

    identity: str = ""
    """BLAKE3 of what the tokenizer does; another one is refused. softlab fills it in."""

    template_identity: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """BLAKE3 of the chat template and the special tokens that it may write. softlab fills it in."""

    trained: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """A tokenizer that was trained on a source. softlab fills it in."""

    vocabulary: int = dataclasses.field(default=0, metadata={RECORDED_IF_OTHER: True})
    """Without a tokenizer, of a student that reads the tokens of a store: how many different ones there are. softlab
    fills it in."""

    def __post_init__(self) -> None:
        _ = self.as_text  # which checks the tokenizer, and the side
        if self.max_length is not None and self.max_length < SHORTEST:
            raise InvalidOption(
                f"input.max_length = {self.max_length}: a token's row tells the one behind it. Give {SHORTEST} or more."
            )
        if self.loss_on not in ("", "all", "completion"):
            raise InvalidOption(f"input.loss_on = {self.loss_on}: is unknown. Say all or completion.")
        if self.prompt_field and self.prompt_field == self.field:
            raise InvalidOption(
                f"input.prompt_field = {self.prompt_field}: is the document too. Name another field, or leave it out."
            )
        beside = [name for name in ("field", "prompt_field") if getattr(self, name)]
        if self.messages_field and beside:
            raise InvalidOption(
                f"input.messages_field and input.{beside[0]}: a sample is a chat or a document. Leave one of them out."
            )
        if self.loss_on == "completion" and not (self.messages_field or self.prompt_field):
            raise InvalidOption(
                "input.loss_on = completion: nothing tells where it begins. Name `input.messages_field` or "
                "`input.prompt_field`, or learn all tokens."
            )

    @property
    def learns_all(self) -> bool:
        """Whether each token is learnt that has one before it."""
        return self.loss_on == "all" or (not self.loss_on and not self.prompt_field)

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields that are read, in their order; one may be empty: the only one, or `text`."""
        if self.messages_field:
            return (self.messages_field,)
        return (*((self.prompt_field,) if self.prompt_field else ()), self.field)

    @property
    def as_text(self) -> TextInput:
        """What finds the tokenizer."""
        return TextInput(
            tokenizer=self.tokenizer,
            max_length=self.max_length,
            truncation=self.truncation,
            identity=self.identity,
            trained=self.trained,
        )
