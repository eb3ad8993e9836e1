"""Tokens as a modality."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from blake3 import blake3

from softlab.errors import InvalidOption, StoreMismatch, suggest
from softlab.indices import RecipeIndex
from softlab.manifest import InputRecord, ViewsRecord
from softlab.modalities.inputs import Collated
from softlab.modalities.modality import LOOKED_AT, OpenDataSet, choose_field
from softlab.modalities.text.inputs import TRAIN
from softlab.modalities.text.modality import TEXTS_TO_TRAIN_ON
from softlab.modalities.text.tokenizer import train_tokenizer
from softlab.modalities.tokens.chats import parse_chat
from softlab.modalities.tokens.collating import collate_tokens
from softlab.modalities.tokens.inputs import LEARNT_FIELD, STORED_FIELD, TokensInput
from softlab.modalities.tokens.shift import rows_of
from softlab.modalities.tokens.tokenizer import read_causal_tokenizer, tokenizer_for
from softlab.modalities.views import AsTheyAre, NoViews, Replay
from softlab.sources.source import Raw

Texts = Mapping[str, Any]
"""The fields of a sample; a chat as the JSON text of its turns, tokens of a store as an array of ids."""

SAME = ("messages_field", "prompt_field", "add_special_tokens", "template_date", "template_identity")
"""Options beside the tokenizer that decide which tokens a sample has: of a student those of its teacher."""


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
"""Of which a model's folder has one, if it has a tokenizer."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """An example holds the texts of all fields that models of a run read."""

    fields: tuple[str, ...] = ("",)
    seen_fields: tuple[str, ...] = ("",)
    """Those that the teacher reads: views are compared by them."""

    chats: tuple[str, ...] = ()
    """Fields that hold turns."""

    answered: tuple[str, ...] = ()
    """Those of them of which the assistant's turns alone are learnt."""

    name: ClassVar[str] = "tokens"
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers",)
    input_options: ClassVar[type[TokensInput]] = TokensInput
    view_options: ClassVar[type[NoViews]] = NoViews
    data_sets: ClassVar[Mapping[str, OpenDataSet]] = MappingProxyType({})

    @property
    def field(self) -> str:
        return self.seen_fields[-1] or "text"

    def for_inputs(self, inputs: Sequence[TokensInput], seen: InputRecord | None) -> "Tokens":
        """Raises StoreMismatch for an input that reads other tokens than the teacher has read."""
        own = [name for options in inputs for name in options.fields]
        teachers = own if seen is None else _fields_of(seen)
        if seen is not None:
            for options in inputs:
                _check_same(options, seen)
        chats = [options for options in inputs if options.messages_field]
        theirs = "" if seen is None else str(seen.options.get("messages_field", ""))
        return Tokens(
            tuple(dict.fromkeys([*teachers, *own])) or ("",),
            tuple(dict.fromkeys(teachers)) or ("",),
            tuple(filter(None, [theirs, *(options.messages_field for options in chats)])),
            tuple(options.messages_field for options in chats if not options.learns_all),
        )

    def pick(self, fields: Mapping[str, Raw], *, where: str) -> Mapping[str, Raw]:
        """The fields that are read. Raises InvalidOption for one that isn't there."""
        if isinstance(fields.get(STORED_FIELD), np.ndarray):
            return {name: fields[name] for name in (STORED_FIELD, LEARNT_FIELD) if name in fields}
        found = {}
        for name in self.fields:
            if name and name not in fields:
                raise InvalidOption(
                    f"{where}: has no field {name!r} (it has {', '.join(fields)}). {suggest(name, fields)} Name its "
                    f"column as `source.fields.{name}`, or correct `input.field`, `input.prompt_field` and "
                    f"`input.messages_field`."
                )
            own = name or choose_field(Tokens(), tuple(fields), where=where)
            if not name and own in self.fields:
                raise InvalidOption(
                    f"{where}: `input.prompt_field` and the document are both the field {own!r}, so that the prompt "
                    f"would be read twice. Name the document as `input.field`."
                )
            found[name] = fields[own]
        return found

    def decode(self, raw: Raw | Mapping[str, Raw]) -> Texts:
        """Raises ValueError or TypeError for what isn't text, or no chat where one is expected."""
        if isinstance(raw, Mapping) and isinstance(raw.get(STORED_FIELD), np.ndarray):
            return dict(raw)
        return {
            name: parse_chat(found, has_answers=name in self.answered) if name in self.chats else _text(found)
            for name, found in (raw if isinstance(raw, Mapping) else {"": raw}).items()
        }

    def samples_to_settle(self, options: TokensInput) -> int:
        """How many samples `settle_input` looks at."""
        return TEXTS_TO_TRAIN_ON if options.tokenizer.startswith(TRAIN) and not options.trained else LOOKED_AT

    def settle_input(self, options: TokensInput, raws: Iterable[Mapping[str, Raw]]) -> tuple[TokensInput, str]:
        """With the tokenizer that is meant, its chat template, and how many tokens are read."""
        is_settled, texts = bool(options.identity), _readable(raws, self.for_inputs((options,), None))
        looked_at = list(islice(texts, LOOKED_AT))
        if options.tokenizer.startswith(TRAIN) and not options.trained:
            pieces = (text for each in chain(looked_at, texts) for text in each.values())
            options = replace(options, trained=train_tokenizer(pieces, vocab_size=options.as_text.vocabulary))
        found = read_causal_tokenizer(options)
        options = replace(
            options,
            identity=found.identity,
            template_identity=found.template_identity,
            max_length=found.max_length,
        )
        return options, "" if is_settled else _note(looked_at, options)

    def as_settled(self, options: TokensInput, record: InputRecord) -> TokensInput:
        said = record.options
        settled = replace(
            options,
            identity=options.identity or said.get("identity", ""),
            template_identity=options.template_identity or said.get("template_identity", ""),
            max_length=options.max_length or said.get("max_length"),
            trained=options.trained or said.get("trained", ""),
        )
        read_causal_tokenizer(settled)
        return settled

    def of_store(self, options: TokensInput, record: InputRecord) -> TokensInput:
        """What the store's own record leaves to no tokenizer, where none is named; `record` says how its teacher has
        read the samples, and over how many tokens."""
        if options.tokenizer:
            return self.as_settled(options, record)
        said, own = record.options, TokensInput()
        same = {name: said.get(name, getattr(own, name)) for name in (*SAME, "truncation", "identity", "vocabulary")}
        return replace(options, max_length=options.max_length or said.get("max_length"), **same)

    def fitted(self, options: TokensInput, model: str) -> TokensInput:
        """With the tokenizer that lies beside a model of Hugging Face's, if one does."""
        origin, _, name = model.partition(":")
        lies_there = not Path(name).is_dir() or any((Path(name) / file).exists() for file in TOKENIZER_FILES)
        return replace(options, tokenizer=name) if origin == "hf" and not options.tokenizer and lies_there else options

    def model_arguments(self, options: TokensInput) -> dict[str, int]:
        """What a model that is built for this input may want to know."""
        is_open = options.tokenizer.startswith(TRAIN) and not options.trained
        if is_open or not (options.tokenizer or options.vocabulary):
            return {}
        tokenizer = tokenizer_for(options)
        return {
            "vocab_size": tokenizer.vocab_size,
            "pad_id": tokenizer.pad_id,
            "max_length": tokenizer.max_length,
        }

    def tells_units(self, options: TokensInput) -> bool:
        """Each token is a unit."""
        return True

    def tells_targets(self, options: TokensInput) -> bool:
        """The token behind each."""
        return True

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> Replay:
        return AsTheyAre(record, recipe_N=recipe_N)

    def digest(self, example: Texts) -> int:
        hasher = blake3()
        if STORED_FIELD in example:
            return int.from_bytes(hasher.update(example[STORED_FIELD].astype("<i8").tobytes()).digest(8), "little")
        for data in (example[name].encode() for name in self.seen_fields):
            hasher.update(struct.pack("<q", len(data))).update(data)
        return int.from_bytes(hasher.digest(8), "little")

    def is_of_a_store(self, example: Texts) -> bool:
        """Whether these are tokens that a teacher has read."""
        return STORED_FIELD in example

    def length(self, example: Texts, options: TokensInput) -> int:
        """Bytes in UTF-8 of what an input reads: how many tokens they are goes with it. Of stored tokens how many."""
        if STORED_FIELD in example:
            return len(example[STORED_FIELD])
        return sum(len(example[name].encode()) for name in options.fields)

    def collate(self, examples: Sequence[Texts], options: TokensInput) -> Collated:
        """As `collate_tokens`."""
        tokenizer = tokenizer_for(options)
        return collate_tokens(
            [tokenizer.read(each, options) for each in examples],
            pad_id=tokenizer.pad_id,
            max_length=tokenizer.max_length if options.pack else None,
            are_beginnings=options.truncation == "right",
        )


MODALITY = Tokens()


def _text(raw: Raw) -> str:
    """Raises ValueError for what isn't UTF-8, or empty."""
    if not isinstance(raw, str | bytes):
        raise TypeError("it isn't text")
    text = raw.decode() if isinstance(raw, bytes) else raw
    text.encode()  # half of a surrogate pair is refused here
    if not text.strip():
        raise ValueError("its text is empty")
    return text


def _fields_of(record: InputRecord) -> list[str]:
    said = record.options
    if said.get("messages_field"):
        return [str(said["messages_field"])]
    return [*filter(None, [str(said.get("prompt_field", ""))]), str(said.get("field", ""))]


def _check_same(options: TokensInput, seen: InputRecord) -> None:
    """Rows are over the tokens of the teacher's vocabulary, and numbered by the tokens that it has read."""
    theirs = seen.options
    if options.identity and options.identity != theirs.get("identity", ""):
        raise StoreMismatch(
            f"input.tokenizer = {options.tokenizer} ({options.identity[:12]}): isn't the teacher's "
            f"({theirs.get('tokenizer')}, {str(theirs.get('identity', ''))[:12]}), and the rows of the store are over "
            f"the teacher's tokens. A student has the teacher's tokenizer; softlab translates no rows to another one."
        )
    ours = {name: getattr(options, name) for name in SAME if name != "template_identity" or options.identity}
    for name, value in ours.items():
        default = TokensInput.__dataclass_fields__[name].default
        if theirs.get(name, default) != value:
            raise StoreMismatch(
                f"input.{name} = {str(value)[:40]}: the teacher's is {str(theirs.get(name, default))[:40]}, so that it "
                f"has read other tokens. Say the same as the teacher."
            )
    if options.field not in ("", seen.field):
        raise StoreMismatch(
            f"input.field = {options.field}: the teacher has read the field {seen.field!r}. Say the same."
        )
    _check_same_end(options, theirs)


def _check_same_end(options: TokensInput, theirs: Mapping[str, Any]) -> None:
    """What is before a token must be the same: a shorter input loses its end alone."""
    ours = (options.truncation, options.max_length)
    teachers = (theirs.get("truncation"), theirs.get("max_length"))
    is_open = options.max_length is None or ours == teachers or {ours[0], teachers[0]} == {"right"}
    if not is_open:
        raise StoreMismatch(
            f"input.truncation = {ours[0]} at {ours[1]} tokens: the teacher's is {teachers[0]} at {teachers[1]}, so "
            f"that it has read other tokens before the same one. Say the same as the teacher."
        )


def _readable(raws: Iterable[Mapping[str, Raw]], modality: Tokens) -> Iterator[Texts]:
    """Others are told of when all are read."""
    for raw in raws:
        try:
            yield modality.decode(raw)
        except (TypeError, ValueError):
            continue


def _note(looked_at: Sequence[Texts], options: TokensInput) -> str:
    tokenizer = tokenizer_for(options)
    read = [tokenizer.read(each, options) for each in looked_at]
    notes = []
    if cut := sum(each.total > len(each) for each in read):
        notes.append(
            f"{cut:,} of {len(read):,} samples that were looked at are longer than {tokenizer.max_length:,} tokens, "
            f"and lose their {'end' if options.truncation == 'right' else 'beginning'}. Raise `input.max_length` where "
            f"the model can take more"
        )
    if bare := sum(not len(rows_of(each)) for each in read):
        notes.append(f"{bare:,} of {len(read):,} samples that were looked at have no token to learn, so no row")
    return "; ".join(notes)
