"""Right answers of samples that ask for a stretch of their text, as SQuAD has them (Rajpurkar et al. 2016)."""

# Shape letters: N samples.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from softlab.errors import SourceError, suggest
from softlab.sources.source import Source

TEXT, START = "text", "answer_start"
"""The fields of a struct of answers: a list of each."""


class Answer(NamedTuple):
    """A stretch of a text."""

    text: str
    start: int
    """The number of its first character."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """Of N samples."""

    texts: Any
    """An Arrow array of lists of texts; null where nothing is known."""

    starts: Any
    """Likewise of integers."""

    def __len__(self) -> int:
        return len(self.texts)

    def of(self, index: int) -> tuple[Answer, ...] | None:
        """All right answers of a sample, the one that is learnt first; empty where its text holds none, None where
        nothing is known."""
        texts, starts = self.texts[index].as_py(), self.starts[index].as_py()
        return None if texts is None else tuple(map(Answer, texts, starts))

    def take(self, chosen_N: NDArray[np.int64]) -> "Answers":
        return Answers(texts=self.texts.take(pa.array(chosen_N)), starts=self.starts.take(pa.array(chosen_N)))


def answers_of(source: Source) -> Answers | None:
    """Those of a source; None where it tells none."""
    found: Answers | None = getattr(source, "answers", None)
    return found


def check_answer_columns(where: object, schema: Any, columns: Sequence[str]) -> None:
    """Raises SourceError for columns that aren't there, or can't be answers."""
    for column in columns:
        if column not in schema.names:
            raise SourceError(
                f"{where}: there is no column {column!r} of answers. {suggest(column, schema.names)} Correct "
                f"`source.answer_column` and `source.answer_start_column`."
            )
    types = [schema.field(column).type for column in columns]
    if len(columns) == 1 and not _is_struct_of_lists(types[0]):
        raise SourceError(
            f"{where}: the column {columns[0]!r} of answers has type {types[0]}, expected "
            f"struct<{TEXT}: list<string>, {START}: list<int>>. Of a column of texts say where each begins, with "
            f"`source.answer_start_column`."
        )
    if len(columns) == 2 and not (_is_text(types[0]) and pa.types.is_integer(types[1])):
        raise SourceError(
            f"{where}: the columns {columns[0]!r} and {columns[1]!r} have the types {types[0]} and {types[1]}, "
            f"expected texts and integers. Correct `source.answer_column` and `source.answer_start_column`."
        )


def read_answers(where: object, columns: Sequence[Any]) -> Answers:
    """Of a column of structs, or of a column of texts (empty where a text holds no answer) and one of integers. Raises
    SourceError where texts and places don't belong together."""
    cells = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
    texts, starts = _fields(cells[0]) if len(cells) == 1 else _as_lists(*cells)
    lengths_N, places_N = (np.asarray(pc.fill_null(pc.list_value_length(each), -1)) for each in (texts, starts))
    is_wrong_N = lengths_N != places_N
    for each in (texts, starts):
        is_wrong_N[np.asarray(pc.list_parent_indices(each))[np.asarray(pc.is_null(pc.list_flatten(each)))]] = True
    if is_wrong_N.any():
        row = int(is_wrong_N.argmax())
        raise SourceError(
            f"{where}: row {row} has {lengths_N[row]} answers and {places_N[row]} places where they begin, or one of "
            f"them is empty. Give each answer its text and its place."
        )
    return Answers(texts=texts, starts=starts)


def _fields(cells: Any) -> tuple[Any, Any]:
    return pc.struct_field(cells, TEXT), pc.struct_field(cells, START)


def _as_lists(texts: Any, starts: Any) -> tuple[Any, Any]:
    is_known, has_one = pc.is_valid(texts), pc.fill_null(pc.not_equal(texts, ""), False)
    counts_N = np.asarray(has_one).astype(np.int32)
    offsets_N = np.concatenate([np.zeros(1, dtype=np.int32), np.cumsum(counts_N, dtype=np.int32)])
    lists = [
        pa.ListArray.from_arrays(pa.array(offsets_N), column.filter(has_one), mask=pc.invert(is_known))
        for column in (texts, starts)
    ]
    return lists[0], lists[1]


def _is_struct_of_lists(found: Any) -> bool:
    if not pa.types.is_struct(found) or min(found.get_field_index(TEXT), found.get_field_index(START)) < 0:
        return False
    texts, starts = found.field(TEXT).type, found.field(START).type
    are_lists = all(pa.types.is_list(each) or pa.types.is_large_list(each) for each in (texts, starts))
    return bool(are_lists and _is_text(texts.value_type) and pa.types.is_integer(starts.value_type))


def _is_text(found: Any) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))
