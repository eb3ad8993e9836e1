"""Texts as a modality."""

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar

from blake3 import blake3

from softlab.errors import InvalidOption, StoreMismatch, suggest
from softlab.indices import RecipeIndex
from softlab.manifest import InputRecord, ViewsRecord
from softlab.modalities.answers import AnsweredText
from softlab.modalities.inputs import Collated
from softlab.modalities.modality import LOOKED_AT, OpenDataSet, choose_field
from softlab.modalities.text.candidates import (
    CandidateFields,
    Texts,
    all_texts,
    candidates_in,
    candidates_of,
    candidates_told_anew,
    collate_candidates,
    count_candidates,
    numbers_of,
    readings,
)
from softlab.modalities.text.collating import collate_texts
from softlab.modalities.text.inputs import TRAIN, TextInput
from softlab.modalities.text.spans import find_answer
from softlab.modalities.text.tokenizer import TextTokenizer, read_tokenizer, tokenizer_for, train_tokenizer
from softlab.modalities.text.views import ARGUMENTS, TextViews, change_texts
from softlab.modalities.text.words import count_words, joined_words
from softlab.modalities.views import EachAlone
from softlab.sources.answers import Answer
from softlab.sources.source import Raw

TEXTS_TO_TRAIN_ON = 100_000
"""From all over a source, for a tokenizer: more change next to nothing."""


@dataclass(frozen=True, slots=True)
class Text:
    """An example holds the texts of all fields that models of a run read."""

    fields: tuple[str, ...] = ("",)
    seen_fields: tuple[str, ...] = ("",)
    """Those that the teacher reads: views are compared by them."""

    candidates: tuple[CandidateFields, ...] = ()
    """Of inputs that have any."""

    lists: tuple[str, ...] = ()
    """Fields that may hold several texts."""

    name: ClassVar[str] = "text"
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers",)
    input_options: ClassVar[type[TextInput]] = TextInput
    view_options: ClassVar[type[TextViews]] = TextViews
    data_sets: ClassVar[Mapping[str, OpenDataSet]] = MappingProxyType({})

    @property
    def field(self) -> str:
        return self.seen_fields[0] or "text"

    def for_inputs(self, inputs: Sequence[TextInput], seen: InputRecord | None) -> "Text":
        """Raises StoreMismatch for an input that wants the teacher's tokenizer, and has another, and for one that seeks
        answers among other words."""
        own = [name for options in inputs for name in options.fields]
        teachers = own if seen is None else _fields_of(seen)
        if seen is not None:
            for options in inputs:
                _check_same(options, seen)
                _check_same_words(options, seen)
        theirs = () if seen is None else candidates_in(seen)
        return Text(
            tuple(dict.fromkeys([*teachers, *own])) or ("",),
            tuple(dict.fromkeys(teachers)) or ("",),
            tuple(filter(None, map(CandidateFields.of, inputs))),
            (*theirs, *(name for options in inputs for name in options.candidate_fields)),
        )

    def pick(self, fields: Mapping[str, Raw], *, where: str) -> Mapping[str, Raw]:
        """The fields that are read. Raises InvalidOption for one that isn't there."""
        found = {}
        for name in dict.fromkeys([*self.fields, *(each.relevance for each in self.candidates if each.relevance)]):
            if name and name not in fields:
                raise InvalidOption(
                    f"{where}: has no field {name!r} (it has {', '.join(fields)}). {suggest(name, fields)} Name its "
                    f"column as `source.fields.{name}`, or correct `input.field` and `input.pair_field`."
                )
            found[name] = fields[name or choose_field(Text(), tuple(fields), where=where)]
        return found

    def decode(self, raw: Raw | Mapping[str, Raw]) -> Texts:
        """Raises ValueError or TypeError for what isn't text, and a sample whose candidates aren't as options say."""
        example: dict[str, Any] = {}
        numbers = {each.relevance for each in self.candidates}
        for name, found in (raw if isinstance(raw, Mapping) else {"": raw}).items():
            if name in numbers:
                example[name] = numbers_of(found)
            elif isinstance(found, tuple) and name in self.lists:
                example[name] = tuple(map(_text, found))
            else:
                example[name] = _text(found)
        for each in self.candidates:
            each.check(example)
        return example

    def samples_to_settle(self, options: TextInput) -> int:
        """How many samples `settle_input` looks at."""
        if options.candidate_fields and options.max_candidates is None:
            return sys.maxsize
        return TEXTS_TO_TRAIN_ON if options.tokenizer.startswith(TRAIN) and not options.trained else LOOKED_AT

    def settle_input(self, options: TextInput, raws: Iterable[Mapping[str, Raw]]) -> tuple[TextInput, str]:
        """With the tokenizer that is meant, how much of a text it lets in, and how many candidates there are."""
        is_settled, texts = bool(options.identity), _readable(raws, self.for_inputs((options,), None))
        if options.candidate_fields and options.max_candidates is None:
            held, count = count_candidates(texts, options, keep=TEXTS_TO_TRAIN_ON)
            options, texts = replace(options, max_candidates=count), iter(held)
        looked_at = list(islice(texts, LOOKED_AT))
        if options.tokenizer.startswith(TRAIN) and not options.trained:
            pieces = (text for each in _chained(looked_at, texts) for text in all_texts(each))
            options = replace(options, trained=train_tokenizer(pieces, vocab_size=options.vocabulary))
        tokenizer = read_tokenizer(options)
        options = replace(options, identity=tokenizer.identity, max_length=tokenizer.max_length)
        return options, "" if is_settled else _note(tokenizer, looked_at, options)

    def as_settled(self, options: TextInput, record: InputRecord) -> TextInput:
        said = record.options
        settled = replace(
            options,
            identity=options.identity or said.get("identity", ""),
            max_length=options.max_length or said.get("max_length"),
            trained=options.trained or said.get("trained", ""),
            max_candidates=options.max_candidates or said.get("max_candidates"),
        )
        read_tokenizer(settled)
        return settled

    def fitted(self, options: TextInput, model: str) -> TextInput:
        """With the tokenizer that lies beside a model of Hugging Face's."""
        origin, _, name = model.partition(":")
        return replace(options, tokenizer=name) if origin == "hf" and not options.tokenizer else options

    def told_anew(self, recorded: TextInput, given: TextInput) -> TextInput:
        """With the candidates of another data set, and their relevance. What has learnt from queries with candidates
        reads single texts where a field is given and no candidates are."""
        return recorded if not recorded.candidate_fields else candidates_told_anew(recorded, given)

    def model_arguments(self, options: TextInput) -> dict[str, int]:
        """What a model that is built for this input may want to know."""
        if not options.tokenizer or (options.tokenizer.startswith(TRAIN) and not options.trained):
            return {}
        tokenizer = tokenizer_for(options)
        return {
            "vocab_size": tokenizer.vocab_size,
            "pad_id": tokenizer.pad_id,
            "max_length": tokenizer.max_length,
            "max_words": options.max_words,
        }

    def tells_units(self, options: TextInput) -> bool:
        """Whether texts number the rows of models."""
        return bool(options.unit)

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> EachAlone:
        return EachAlone(record, change=change_texts, arguments=ARGUMENTS, samples="texts", recipe_N=recipe_N)

    def digest(self, example: Texts) -> int:
        hasher = blake3()
        for name in self.seen_fields:
            found = example[name]
            if not isinstance(found, str):
                hasher.update(struct.pack("<q", -len(found)))
            for data in (text.encode() for text in candidates_of(example, [name])):
                hasher.update(struct.pack("<q", len(data))).update(data)
        return int.from_bytes(hasher.digest(8), "little")

    def length(self, example: Texts, options: TextInput) -> int:
        """Bytes in UTF-8 of the texts that an input reads: how many tokens they are goes with it."""
        return sum(len(text.encode()) for text in candidates_of(example, options.fields))

    def collate(self, examples: Sequence[Texts], options: TextInput) -> Collated:
        """`input_ids` and `attention_mask` [B, L], and for pairs that the tokenizer tells apart `token_type_ids`; with
        `unit` the rows of words. Where answers are sought, `first_tokens` and `last_tokens` too."""
        collate = collate_candidates if options.candidate_fields else collate_texts
        return collate(examples, options, tokenizer_for(options))

    def find_answer(
        self, example: Texts, options: TextInput, right: Sequence[Answer] | None
    ) -> tuple[AnsweredText, tuple[int, int]]:
        """A sample's text with what is right in it, and at which class each of `options.outputs` should be. Raises
        ValueError for an answer that isn't there."""
        return find_answer(example[options.pair_field], right, max_words=options.max_words)


MODALITY = Text()


def _text(raw: Raw) -> str:
    """Of a list of words the text that has them, with spaces between. Raises ValueError for what isn't UTF-8, or
    empty."""
    raw = joined_words(raw) if isinstance(raw, tuple) else raw
    if not isinstance(raw, str | bytes):
        raise TypeError("it isn't text")
    text = raw.decode() if isinstance(raw, bytes) else raw
    text.encode()  # half of a surrogate pair is refused here
    if not text.strip():
        raise ValueError("its text is empty")
    return text


def _fields_of(record: InputRecord) -> list[str]:
    pair = record.options.get("pair_field", "")
    return [str(record.options.get("field", "")), *([str(pair)] if pair else []), *candidates_in(record)]


def _check_same(options: TextInput, seen: InputRecord) -> None:
    theirs = seen.options.get("identity", "")
    if options.same_tokenizer and options.identity and options.identity != theirs:
        raise StoreMismatch(
            f"input.same_tokenizer: this student's tokenizer ({options.tokenizer}, {options.identity[:12]}) isn't the "
            f"teacher's ({seen.options.get('tokenizer')}, {str(theirs)[:12]}). Name the teacher's, or leave "
            f"`input.same_tokenizer` out."
        )


def _check_same_words(options: TextInput, seen: InputRecord) -> None:
    """Of rows for words, and of answers among them: the words of one text number no rows of another."""
    if options.unit and seen.options.get("unit") and options.field not in ("", seen.field):
        raise StoreMismatch(
            f"input.field = {options.field}: the store has a row for each word of the field {seen.field!r}, and this "
            f"student reads other words. Let it read `input.field = {seen.field}`."
        )
    theirs = {name: seen.options.get(name) for name in ("max_words", "pair_field")}
    ours = {"max_words": options.max_words, "pair_field": options.pair_field}
    if options.max_words and theirs["max_words"] and ours != theirs:
        found = [
            f"`input.{name} = {ours[name]}`, and the teacher's is {theirs[name]}"
            for name in ours
            if ours[name] != theirs[name]
        ]
        raise StoreMismatch(
            f"{' and '.join(found)}: answers are stored by the words among which it sought them. Say the same."
        )


def _readable(raws: Iterable[Mapping[str, Raw]], modality: Text) -> Iterator[Texts]:
    """Others are told of when all are read."""
    for raw in raws:
        try:
            yield modality.decode(raw)
        except (TypeError, ValueError):
            continue


def _chained(first: Sequence[Texts], rest: Iterable[Texts]) -> Iterator[Texts]:
    yield from first
    yield from rest


def _note(tokenizer: TextTokenizer, looked_at: Sequence[Texts], options: TextInput) -> str:
    encoded = [tokenizer.encode(*texts) for each in looked_at for texts in readings(each, options)]
    cut = sum(bool(found.overflowing) for found in encoded)
    if not cut:
        return ""
    words = ""
    if options.unit:
        lost, total = count_words(encoded, [each[options.field] for each in looked_at])
        words = f", {lost:,} of {total:,} words, which have no row"
    return (
        f"{cut:,} of {len(encoded):,} texts that were looked at are longer than {tokenizer.max_length:,} tokens, and "
        f"lose their {'end' if options.truncation == 'right' else 'beginning'}{words}. Raise `input.max_length` where "
        f"the model can take more"
    )
