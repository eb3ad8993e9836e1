"""The tokenizer of a causal language model with its chat template, and what is read of a document or a chat."""

# Shape letters: T tokens of one sample.

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, StoreMismatch
from softlab.identity import digest_of
from softlab.modalities.text.tokenizer import DEFAULT_LENGTH, TextTokenizer, chat_writer_of, read_tokenizer
from softlab.modalities.text.words import Encoding
from softlab.modalities.tokens.chats import Turn, WriteChat, WrittenText, write_chat
from softlab.modalities.tokens.inputs import LEARNT_FIELD, SHORTEST, STORED_FIELD, TokensInput
from softlab.modalities.tokens.shift import ReadTokens

CLOCK = "strftime_now"
"""What templates call for the day's date."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CausalTokenizer:
    """A tokenizer as one input wants it."""

    text: TextTokenizer
    write: WriteChat | None
    """The chat template; None where samples are documents."""

    template_identity: str

    @property
    def max_length(self) -> int:
        return self.text.max_length

    @property
    def vocab_size(self) -> int:
        return self.text.vocab_size

    @property
    def pad_id(self) -> int:
        return self.text.pad_id

    @property
    def identity(self) -> str:
        return self.text.identity

    def read(self, example: Mapping[str, Any], options: TokensInput) -> ReadTokens:
        """The tokens of an example. Raises InvalidOption for a chat whose turns can't be written, and where the
        tokenizer leaves nothing."""
        if STORED_FIELD in example:
            return _as_stored(example[STORED_FIELD], example.get(LEARNT_FIELD), max_length=self.max_length)
        written = self.written(example, options)
        has_special = options.add_special_tokens and self.write is None
        found = self.text.rust.encode(written.text, add_special_tokens=has_special)
        if not found.ids:
            raise InvalidOption(
                f"the tokenizer leaves nothing of the text {written.text[:40]!r}. Leave such samples out, or choose "
                f"another `input.tokenizer`."
            )
        ids_T = np.array(found.ids, dtype=np.int64)
        kept_T = _kept(found, total=len(ids_T), max_length=self.max_length, truncation=options.truncation)
        is_learnt_T = np.ones(len(ids_T), dtype=np.bool_) if options.learns_all else _are_learnt(found, written)
        return ReadTokens(ids_T=ids_T[kept_T], numbers_T=kept_T, is_learnt_T=is_learnt_T[kept_T], total=len(ids_T))

    def written(self, example: Mapping[str, str], options: TokensInput) -> WrittenText:
        """The text that is cut into tokens."""
        if self.write is not None:
            return write_chat(example[options.messages_field], self.write, learns_all=options.learns_all)
        text = "".join(example[name] for name in options.fields)
        learnt_from = 0 if options.learns_all else len(text) - len(example[options.field])
        return WrittenText(text, ((learnt_from, len(text)),))


@dataclass(frozen=True, kw_only=True)
class NoTokenizer:
    """What stands in its place where the tokens of a store are read, and nothing else."""

    vocab_size: int
    max_length: int
    identity: str
    template_identity: str
    pad_id: int = 0
    """Any token: what batches are filled up with isn't looked at."""

    def read(self, example: Mapping[str, Any], options: TokensInput) -> ReadTokens:
        """The tokens of an example. Raises InvalidOption for a text."""
        if STORED_FIELD not in example:
            raise InvalidOption(
                "input.tokenizer: is left out, which does for the tokens that a store holds, but here are texts. Name "
                "the teacher's tokenizer as `input.tokenizer`."
            )
        return _as_stored(example[STORED_FIELD], example.get(LEARNT_FIELD), max_length=self.max_length)


@functools.lru_cache(maxsize=32)
def tokenizer_for(options: TokensInput) -> CausalTokenizer | NoTokenizer:
    """The tokenizer of settled options; read once a process. Raises as `read_causal_tokenizer`."""
    return read_causal_tokenizer(options)


def read_causal_tokenizer(options: TokensInput) -> CausalTokenizer | NoTokenizer:
    """Raises InvalidOption for a tokenizer that isn't there, or has no chat template where one is needed; StoreMismatch
    where it isn't the one that `options.identity` and `options.template_identity` tell."""
    if options.vocabulary and not options.tokenizer:
        return NoTokenizer(
            vocab_size=options.vocabulary,
            max_length=options.max_length or DEFAULT_LENGTH,
            identity=options.identity,
            template_identity=options.template_identity,
        )
    found = read_tokenizer(options.as_text, needs_pad=False)
    found.rust.no_truncation()
    if not options.messages_field:
        return CausalTokenizer(text=found, write=None, template_identity="")
    write, identity = _template_of(options)
    if options.template_identity and identity != options.template_identity:
        raise StoreMismatch(
            f"tokenizer {options.tokenizer}: its chat template has changed ({identity[:12]}; what was recorded is "
            f"{options.template_identity[:12]}), or the special tokens that it writes. Get the former one back, or "
            f"make the store anew with this one."
        )
    return CausalTokenizer(text=found, write=write, template_identity=identity)


def _template_of(options: TokensInput) -> tuple[WriteChat, str]:
    """What writes a chat, and its identity."""
    if options.trained:
        raise InvalidOption(
            f"input.tokenizer = {options.tokenizer}: has no chat template. Name a tokenizer that has one, or write the "
            f"chats out as documents."
        )
    path = Path(options.tokenizer)
    library = chat_writer_of(str(path.parent) if path.is_file() else options.tokenizer)
    template = library.get_chat_template()
    if CLOCK in template and not options.template_date:
        raise InvalidOption(
            f"tokenizer {options.tokenizer}: its chat template writes the day's date, so that a student would read "
            f"other tokens the day after. Say what it is to write, as in `input.template_date = 26 Jul 2024`."
        )
    said = [template, options.template_date, sorted(library.special_tokens_map.items())]
    identity = digest_of(json.dumps(said, sort_keys=True).encode())
    dated = f"{{%- macro {CLOCK}(format) -%}}{options.template_date}{{%- endmacro -%}}{template}"
    return functools.partial(_written, library, dated if options.template_date else template), identity


def _written(library: Any, template: str, turns: Sequence[Turn], asks: bool) -> str:
    try:
        written: str = library.apply_chat_template(
            list(turns), chat_template=template, tokenize=False, add_generation_prompt=asks
        )
    except Exception as error:  # whatever the template raises is an answer to these turns
        roles = ", ".join(turn["role"] for turn in turns) or "none"
        raise InvalidOption(
            f"the chat template refuses the turns {roles}: {str(error).partition(chr(10))[0]}. Leave such samples out, "
            f"or correct them."
        ) from error
    return written


def _as_stored(ids_T: NDArray[np.integer[Any]], learnt_T: NDArray[Any] | None, *, max_length: int) -> ReadTokens:
    """`learnt_T` is None where all are."""
    own_T = ids_T[:max_length].astype(np.int64)
    is_learnt_T = np.ones(len(ids_T), dtype=np.bool_) if learnt_T is None else learnt_T.astype(np.bool_)
    return ReadTokens(
        ids_T=own_T,
        numbers_T=np.arange(len(own_T)),
        is_learnt_T=is_learnt_T[:max_length],
        total=len(ids_T),
    )


def _kept(found: Encoding, *, total: int, max_length: int, truncation: str) -> NDArray[np.int64]:
    """Which tokens are read, ascending."""
    if total <= max_length or truncation == "right":
        return np.arange(min(total, max_length))
    in_front = min(_specials_in_front(found), max_length - SHORTEST)
    return np.concatenate([np.arange(in_front), np.arange(total - max_length + in_front, total)])


def _specials_in_front(found: Encoding) -> int:
    return int(np.logical_and.accumulate(_are_added(found)).sum())


def _are_added(found: Encoding) -> NDArray[np.bool_]:
    """bool [T], which are special tokens that the tokenizer has added."""
    return np.array([text is None for text in found.sequence_ids], dtype=np.bool_)


def _are_learnt(found: Encoding, written: WrittenText) -> NDArray[np.bool_]:
    """bool [T]: those that begin in a part that is learnt, and special ones behind the text where its end is."""
    first_T = np.array(found.offsets, dtype=np.int64).reshape(-1, 2)[:, 0]
    is_added_T = _are_added(found)
    is_behind_T = is_added_T & (np.arange(len(first_T)) >= _specials_in_front(found))
    is_learnt_T = np.zeros(len(first_T), dtype=np.bool_)
    for begin, behind in written.learnt:
        is_learnt_T |= ~is_added_T & (first_T >= begin) & (first_T < behind)
    ends_learnt = any(behind == len(written.text) for _, behind in written.learnt)
    return is_learnt_T | (is_behind_T & ends_learnt)
