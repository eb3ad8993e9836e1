"""Queries with their candidates: which fields they are in, and how a model is given them."""

# Shape letters: B queries in a batch, N candidates of the one that has most, L tokens of the longest text.

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.manifest import InputRecord
from softlab.modalities.inputs import Collated, Inputs
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.tokenizer import TextTokenizer
from softlab.sources.source import Raw

Texts = Mapping[str, Any]
"""By field, as options name it: empty for the only one, or `text`. A text; of a list column a tuple of them; of a field
of relevance an array of float32."""


@dataclass(frozen=True, slots=True)
class CandidateFields:
    """Where the candidates of a query are: one field after the other, each a text or a list of texts."""

    names: tuple[str, ...]
    relevance: str
    """The field with a number for each of them; empty for none."""

    most: int | None

    @classmethod
    def of(cls, options: TextInput) -> "CandidateFields | None":
        """None of an input without candidates."""
        if not options.candidate_fields:
            return None
        return cls(options.candidate_fields, options.relevance_field, options.max_candidates)

    def check(self, example: Texts) -> None:
        """Raises ValueError for a sample without candidates, with too many, or without a relevance of each."""
        count = len(list(candidates_of(example, self.names)))
        if not count:
            raise ValueError("it has no candidates")
        if self.most is not None and count > self.most:
            raise ValueError(f"it has {count:,} candidates, and `input.max_candidates` is {self.most:,}")
        if not self.relevance:
            return
        numbers = numbers_of(example[self.relevance])
        if len(numbers) != count:
            raise ValueError(f"it has {count:,} candidates, and its {self.relevance} has {len(numbers):,} numbers")
        if not (np.isfinite(numbers) & (numbers >= 0)).all():
            raise ValueError(f"its {self.relevance} has numbers below 0 or that are none")


def candidates_of(example: Texts, names: Sequence[str]) -> Iterator[str]:
    """In the order of the fields."""
    for name in names:
        found = example[name]
        yield from (found,) if isinstance(found, str) else (str(each) for each in found)


def candidates_in(record: InputRecord) -> tuple[str, ...]:
    """The fields of candidates that a teacher has read."""
    return tuple(map(str, record.options.get("candidate_fields", ())))


def candidates_told_anew(recorded: TextInput, given: TextInput) -> TextInput:
    """The recorded options with what the given ones say of fields; those of a cross-encoder stay."""
    if given.field and not given.candidate_fields and not recorded.pair_candidates:
        return replace(recorded, field=given.field, candidate_fields=(), max_candidates=None, relevance_field="")
    return replace(
        recorded,
        field=given.field or recorded.field,
        candidate_fields=given.candidate_fields or recorded.candidate_fields,
        max_candidates=given.max_candidates or recorded.max_candidates,
        relevance_field=given.relevance_field or recorded.relevance_field,
    )


def count_candidates(examples: Iterable[Texts], options: TextInput, *, keep: int) -> tuple[list[Texts], int]:
    """Up to `keep` of the examples, from all over them, and how many candidates the query has that has most."""
    kept: list[Texts] = []
    most, stride = 1, 1
    for number, example in enumerate(examples):
        most = max(most, sum(1 for _ in candidates_of(example, options.candidate_fields)))
        if number % stride == 0:
            kept.append(example)
        if len(kept) > keep:
            kept, stride = kept[::2], 2 * stride
    return kept, most


def numbers_of(raw: Raw) -> NDArray[np.float32]:
    """Raises TypeError for what isn't numbers."""
    if not isinstance(raw, np.ndarray):
        raise TypeError("it isn't numbers")
    return np.atleast_1d(raw).astype(np.float32)


def all_texts(example: Texts) -> Iterator[str]:
    """Of all fields."""
    yield from candidates_of(example, [name for name, found in example.items() if not isinstance(found, np.ndarray)])


def readings(example: Texts, options: TextInput) -> list[tuple[str, str | None]]:
    """What a model reads of a sample, each a text and maybe a second one: a single one, a pair, or with candidates
    several."""
    (first,) = candidates_of(example, [options.field])
    if not options.candidate_fields:
        return [(first, next(candidates_of(example, [options.pair_field])) if options.pair_field else None)]
    candidates = list(candidates_of(example, options.candidate_fields))
    if options.pair_candidates:
        return [(first, candidate) for candidate in candidates]
    return [(first, None), *((candidate, None) for candidate in candidates)]


def collate_candidates(examples: Sequence[Texts], options: TextInput, tokenizer: TextTokenizer) -> Collated:
    """Of candidates that are read together with their query, `input_ids`, `attention_mask` and maybe `token_type_ids`
    [B, N, L]. Else `input_ids` and `attention_mask` [B, L] of the queries, and of the candidates `candidate_ids` and
    `candidate_mask` [B, N, L]: a model that doesn't know these refuses them."""
    encoded = [[tokenizer.encode(*texts) for texts in readings(example, options)] for example in examples]
    for example, found in zip(examples, encoded, strict=True):
        if not all(each.ids for each in found):
            raise InvalidOption(
                f"the tokenizer leaves nothing of a text, the query or a candidate of "
                f"{next(candidates_of(example, [options.field]))[:40]!r}. Leave such samples out, or choose another "
                f"`input.tokenizer`."
            )
    most = options.max_candidates or max(len(list(candidates_of(each, options.candidate_fields))) for each in examples)
    if options.pair_candidates:
        named = _stacked(encoded, most, tokenizer)
        if not tokenizer.tells_texts_apart:
            del named["token_type_ids"]
    else:
        queries = _stacked([found[:1] for found in encoded], 1, tokenizer)
        candidates = _stacked([found[1:] for found in encoded], most, tokenizer)
        named = {name: queries[name][:, 0] for name in ("input_ids", "attention_mask")}
        named |= {"candidate_ids": candidates["input_ids"], "candidate_mask": candidates["attention_mask"]}
    return Collated(
        inputs=Inputs(named=named),
        cut_off=sum(any(each.overflowing for each in found) for found in encoded),
        relevance_BN=_relevance(examples, options.relevance_field, most) if options.relevance_field else None,
    )


def _stacked(encoded: Sequence[Sequence[Any]], most: int, tokenizer: TextTokenizer) -> dict[str, Tensor]:
    """[B, N, L], filled up."""
    length = max(len(each.ids) for found in encoded for each in found)
    ids_BNL = torch.full((len(encoded), most, length), tokenizer.pad_id)
    mask_BNL, types_BNL = torch.zeros_like(ids_BNL), torch.zeros_like(ids_BNL)
    for query, found in enumerate(encoded):
        for place, each in enumerate(found):
            ids_BNL[query, place, : len(each.ids)] = torch.tensor(each.ids)
            mask_BNL[query, place, : len(each.ids)] = 1
            types_BNL[query, place, : len(each.ids)] = torch.tensor(each.type_ids)
    return {"input_ids": ids_BNL, "attention_mask": mask_BNL, "token_type_ids": types_BNL}


def _relevance(examples: Sequence[Texts], field: str, most: int) -> Tensor:
    relevance_BN = torch.full((len(examples), most), torch.nan)
    for query, example in enumerate(examples):
        numbers = np.asarray(example[field], dtype=np.float32)
        relevance_BN[query, : len(numbers)] = torch.from_numpy(numbers)
    return relevance_BN
