"""Right answers in tables: as SQuAD has them, or as two columns."""

import csv
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import softlab
from softlab.errors import InvalidOption, SourceError
from softlab.sources.answers import Answer, answers_of
from tests.modalities.text.questions import squad_cells

TEXTS = ["a lovely film", "no film", "what film ?", "this film", "a film"]
KNOWN: list[tuple[Answer, ...] | None] = [
    (Answer("film", 9), Answer("a lovely film", 0)),
    (),
    None,
    (Answer("this", 0),),
    (Answer("film", 2),),
]
FIELDS = {"text": "text"}


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table({"text": TEXTS, **columns}), path)
    return path


def squad() -> pa.Array:
    cells = squad_cells(
        [[answer.text for answer in each or ()] for each in KNOWN],
        [[answer.start for answer in each or ()] for each in KNOWN],
    ).to_pylist()
    cells[2] = None
    return pa.array(cells, squad_cells([], []).type)


def opened(path: Path | str, **options: Any) -> Any:
    return softlab.open_source(softlab.SourceOptions(path=str(path), fields=FIELDS, **options), modality="text")


def test_a_struct_of_texts_and_places_is_read(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "texts.parquet", answers=squad()), answer_column="answers")

    answers = answers_of(source)
    assert answers is not None
    assert [answers.of(index) for index in range(5)] == KNOWN


def test_a_column_of_texts_and_one_of_places_are_read(tmp_path: Path) -> None:
    columns = {"answer": ["film", "", None, "this", "film"], "at": [9, 0, None, 0, 2]}

    source = opened(
        write(tmp_path / "texts.parquet", **columns), answer_column="answer", answer_start_column="at", limit=4
    )

    answers = answers_of(source)
    assert answers is not None
    assert [answers.of(index) for index in range(len(answers))] == [KNOWN[0][:1], *KNOWN[1:4]]  # type: ignore[index]


def test_files_are_one_data_set_and_a_sample_keeps_its_answers_when_some_are_chosen(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"{number}.parquet", answers=squad())
    (tmp_path / "keys.txt").write_text("9\n3\n0\n")

    answers = answers_of(opened(tmp_path, answer_column="answers", keys=tmp_path / "keys.txt"))

    assert answers is not None
    assert [answers.of(index) for index in range(3)] == [KNOWN[0], KNOWN[3], KNOWN[4]]


def test_a_table_of_commas_has_answers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "answer", "at"), ("a film", "film", 2), ("this film", "this", 0)])

    source = opened(f"datasets:csv:{tmp_path / 'texts.csv'}", answer_column="answer", answer_start_column="at")

    answers = answers_of(source)
    assert answers is not None
    assert [answers.of(0), answers.of(1)] == [(Answer("film", 2),), (Answer("this", 0),)]


def test_answers_are_no_part_of_what_a_store_is_made_from(tmp_path: Path) -> None:
    path = write(tmp_path / "texts.parquet", answers=squad())

    plain, answered = opened(path), opened(path, answer_column="answers")

    assert answers_of(plain) is None
    assert plain.read(0).content_hash == answered.read(0).content_hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer_column": "answer"}, "there is no column 'answer' of answers. Did you mean answers?"),
        ({"answer_column": "text"}, "the column 'text' of answers has type string, expected struct<text: list<string>"),
        (
            {"answer_column": "text", "answer_start_column": "answers"},
            "the columns 'text' and 'answers' have the types string and struct<",
        ),
    ],
)
def test_columns_that_can_not_be_answers_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "texts.parquet", answers=squad())

    with pytest.raises(SourceError, match=re.escape(message)):
        opened(path, **options)


@pytest.mark.parametrize(
    ("starts", "found"),
    [
        ([[9], [], [0], [0], [0]], "row 1 has 1 answers and 0 places where they begin"),
        ([[9], [0], [0], [None], [0]], "row 3 has 1 answers and 1 places where they begin, or one of them is empty"),
    ],
)
def test_an_answer_without_a_place_is_refused(tmp_path: Path, starts: Any, found: str) -> None:
    cells = squad_cells([["film"]] * 5, starts)

    with pytest.raises(SourceError, match=found):
        opened(write(tmp_path / "texts.parquet", answers=cells), answer_column="answers")


def test_places_without_answers_and_answers_of_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "one.txt").write_text("a film")

    with pytest.raises(InvalidOption, match=r"Set `source\.answer_column` too"):
        opened(tmp_path, answer_start_column="at")
    with pytest.raises(InvalidOption, match=r"a source of kind folder\. Leave out `source\.answer_column`"):
        opened(tmp_path, answer_column="answers")
