"""Each kind of file, read into the same columns; and what is said of files that can't be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softlab.errors import SoftlabError, SourceError
from softlab.predictions.columns import Columns, choose_numbers
from softlab.predictions.options import PredictionOptions
from softlab.predictions.read import Predictions, read_predictions
from tests.predictions.files import NAMES, chat_answer, completion_answer, probabilities, write_lines, write_table

KEYS = ("a", "b", "c", "d")
P_NC = probabilities(len(KEYS))


def read(predictions: Predictions, *, class_names: tuple[str, ...] | None = None, **options: Any) -> Columns:
    columns, _ = read_predictions(predictions, PredictionOptions(**options), class_names=class_names)
    return columns


def as_parquet(folder: Path) -> Path:
    return write_table(folder / "p.parquet", {"key": KEYS, "probabilities": P_NC.tolist()})


def as_columns_of_parquet(folder: Path) -> Path:
    return write_table(folder / "p.parquet", {"key": KEYS, **dict(zip(NAMES, P_NC.T.tolist(), strict=True))})


def as_csv(folder: Path) -> Path:
    return write_table(folder / "p.csv", {"key": KEYS, **dict(zip(NAMES, P_NC.T.tolist(), strict=True))})


def as_npz(folder: Path) -> Path:
    np.savez(folder / "p.npz", keys=np.array(KEYS), probabilities=P_NC)
    return folder / "p.npz"


def as_lines(folder: Path) -> Path:
    records = [{"key": key, "probabilities": p_C} for key, p_C in zip(KEYS, P_NC.tolist(), strict=True)]
    return write_lines(folder / "p.jsonl", records)


@pytest.mark.parametrize("write", [as_parquet, as_columns_of_parquet, as_csv, as_npz, as_lines])
def test_every_kind_of_file_holds_the_same_keys_and_numbers(write: Any, tmp_path: Path) -> None:
    columns = read(write(tmp_path), kind="probabilities")

    name, kind = choose_numbers(columns, PredictionOptions(kind="probabilities"))
    assert kind == "probabilities"
    assert columns.keys == list(KEYS)
    np.testing.assert_allclose(columns.numbers[name], P_NC, rtol=1e-12)


def test_answers_are_numbered_in_every_kind_of_file(tmp_path: Path) -> None:
    views, by_name = [0, 0, 1, 1], dict(zip(NAMES, P_NC.T.tolist(), strict=True))
    np.savez(tmp_path / "p.npz", key=np.array(KEYS), view=np.array(views), probabilities=P_NC)
    rows = zip(KEYS, views, P_NC.tolist(), strict=True)
    files = [
        write_table(tmp_path / "list.parquet", {"key": KEYS, "view": views, "probabilities": P_NC.tolist()}),
        write_table(tmp_path / "columns.parquet", {"key": KEYS, "view": views, **by_name}),
        write_table(tmp_path / "columns.csv", {"key": KEYS, "view": views, **by_name}),
        write_lines(
            tmp_path / "p.jsonl", [{"key": key, "view": view, "probabilities": p_C} for key, view, p_C in rows]
        ),
        tmp_path / "p.npz",
    ]

    for file in files:
        columns = read(file, kind="probabilities")
        assert columns.views_N is not None
        assert columns.views_N.tolist() == views
        np.testing.assert_allclose(columns.numbers["probabilities"], P_NC, rtol=1e-12)


@pytest.mark.parametrize("write", [as_columns_of_parquet, as_csv])
def test_columns_name_their_classes(write: Any, tmp_path: Path) -> None:
    assert read(write(tmp_path), kind="probabilities").class_names == NAMES


def test_batches_in_python_are_one_behind_the_other_and_may_be_tensors_of_half_precision() -> None:
    logits = torch.from_numpy(P_NC).bfloat16()
    batches = [{"key": KEYS[:3], "logits": logits[:3]}, {"key": KEYS[3:], "logits": logits[3:]}]

    columns = read(iter(batches))

    assert columns.keys == list(KEYS)
    np.testing.assert_array_equal(columns.numbers["logits"], logits.float().numpy())


def test_a_folder_of_parquet_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    for part in range(2):
        rows = slice(2 * part, 2 * part + 2)
        write_table(tmp_path / f"p-{part}.parquet", {"key": KEYS[rows], "probabilities": P_NC[rows].tolist()})

    assert read(tmp_path).keys == list(KEYS)
    assert read(str(tmp_path / "p-*.parquet")).keys == list(KEYS)


def test_whole_numbers_as_keys_are_texts(tmp_path: Path) -> None:
    table = write_table(tmp_path / "p.parquet", {"id": [7, 8], "logits": [[1.0, 2.0], [3.0, 4.0]]})

    assert read(table, key_column="id").keys == ["7", "8"]


def test_lists_of_several_lengths_are_filled_up(tmp_path: Path) -> None:
    ids, logs = [[2, 0], [1]], [[-0.1, -3.0], [-0.2]]
    table = write_table(tmp_path / "p.parquet", {"key": ["a", "b"], "class_ids": ids, "log_probabilities": logs})

    columns = read(table)

    assert columns.class_ids_NK is not None
    assert columns.class_ids_NK.tolist() == [[2, 0], [1, -1]]
    assert columns.numbers["log_probabilities"].tolist() == [[-0.1, -3.0], [-0.2, -np.inf]]


@pytest.mark.parametrize("answer", [chat_answer, completion_answer])
def test_an_answer_of_a_service_tells_classes_by_their_names(answer: Any, tmp_path: Path) -> None:
    """`dog` is told by two tokens, which are added up, and `The` names no class: the rest is what it is without it."""
    lines = [
        answer("a", {"cat": np.log(0.5), " dog": np.log(0.2), "dog": np.log(0.1), "The": np.log(0.1)}),
        answer("b", {"hen": np.log(0.9), "cat": np.log(0.05)}),
    ]

    columns = read(write_lines(tmp_path / "p.jsonl", lines), class_names=NAMES)

    assert columns.keys == ["a", "b"]
    assert columns.class_ids_NK is not None
    assert columns.class_ids_NK.tolist() == [[0, 1], [2, 0]]
    found = np.exp(columns.numbers["log_probabilities"])
    np.testing.assert_allclose(found, [[0.5 / 0.9, 0.3 / 0.9], [0.9, 0.05]], rtol=1e-12)
    assert columns.left_out == pytest.approx(0.05)


def test_another_token_of_an_answer_can_be_the_one_that_counts(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", [chat_answer("a", {"Answer:": -0.1}, {"hen": -0.2})])

    columns = read(file, class_names=NAMES, token=1)

    assert columns.class_ids_NK is not None
    assert columns.class_ids_NK.tolist() == [[2]]


def test_votes_by_name_count_classes_that_nobody_gave_as_zero(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", [{"key": "a", "votes": {"hen": 3, "cat": 1}}])

    columns = read(file, class_names=NAMES)

    assert columns.numbers["votes"].tolist() == [[1, 0, 3]]


def test_the_hash_is_of_the_bytes_and_another_order_of_rows_has_another(tmp_path: Path) -> None:
    file = as_npz(tmp_path)
    _, first = read_predictions(file, PredictionOptions(), class_names=None)
    _, again = read_predictions(file, PredictionOptions(), class_names=None)
    np.savez(file, keys=np.array(KEYS[::-1]), probabilities=P_NC[::-1])
    _, other = read_predictions(file, PredictionOptions(), class_names=None)

    assert first == again != other


def test_the_hash_of_batches_does_not_hang_on_how_they_are_cut() -> None:
    whole = [{"key": list(KEYS), "logits": P_NC}]
    cut = [{"key": list(KEYS[:1]), "logits": P_NC[:1]}, {"key": list(KEYS[1:]), "logits": P_NC[1:]}]
    other = [{"key": list(KEYS), "logits": P_NC + 1}]

    digests = [read_predictions(each, PredictionOptions(), class_names=None)[1] for each in (whole, cut, other)]

    assert digests[0] == digests[1] != digests[2]


def cut_in_the_middle(folder: Path) -> Path:
    file = as_lines(folder)
    file.write_bytes(file.read_bytes()[:-20])
    return file


def cut_parquet(folder: Path) -> Path:
    file = as_parquet(folder)
    file.write_bytes(file.read_bytes()[:200])
    return file


def pickled(folder: Path) -> Path:
    np.savez(folder / "p.npz", key=np.array(KEYS), logits=np.array([[1], [2, 3]], dtype=object))
    return folder / "p.npz"


def no_keys_array(folder: Path) -> Path:
    np.save(folder / "p.npy", P_NC)
    return folder / "p.npy"


def one_column_of_labels(folder: Path) -> Path:
    return write_table(folder / "p.csv", {"key": KEYS, "label": [0, 1, 2, 0], "cat": [0.5] * 4, "dog": [0.5] * 4})


def one_of_text(folder: Path) -> Path:
    return write_table(folder / "p.csv", {"key": KEYS, "cat": [0.5] * 4, "who": ["x", "y", "z", "x"]})


def a_row_without_key(folder: Path) -> Path:
    return write_table(folder / "p.parquet", {"key": ["a", None], "logits": [[1.0, 2.0], [1.0, 2.0]]})


def a_record_without_numbers(folder: Path) -> Path:
    return write_lines(folder / "p.jsonl", [{"key": "a", "logits": [1, 2]}, {"key": "b"}])


def a_record_without_key(folder: Path) -> Path:
    return write_lines(folder / "p.jsonl", [{"key": "a", "logits": [1, 2]}, {"logits": [1, 2]}])


def an_answer_without_log_probabilities(folder: Path) -> Path:
    return write_lines(folder / "p.jsonl", [{"key": "a", "choices": [{"message": {"content": "cat"}}]}])


def two_columns(folder: Path) -> Path:
    return write_table(folder / "p.parquet", {"key": KEYS, "logits": P_NC.tolist(), "probabilities": P_NC.tolist()})


def an_unknown_name(folder: Path) -> Path:
    return write_table(folder / "p.parquet", {"key": KEYS, "output": P_NC.tolist()})


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (lambda folder: folder / "nowhere.npz", "there is no such file of predictions"),
        (lambda folder: write_table(folder / "p.tsv", {"key": KEYS}), "predictions are read from .parquet, .csv"),
        (cut_in_the_middle, "line 4 isn't a whole record"),
        (cut_parquet, "can't be read as Parquet"),
        (pickled, "can't be read as npz"),
        (no_keys_array, "holds one array without keys"),
        (one_column_of_labels, "each column of numbers would be a class, also 'label'"),
        (one_of_text, "beside one column a class it has 'who', which are no numbers"),
        (a_row_without_key, "row 2 has no `key`"),
        (a_record_without_numbers, "line 2: has neither predictions by their kind nor"),
        (a_record_without_key, "line 2: has other fields than the records before it ('key')"),
        (an_answer_without_log_probabilities, "line 1: has neither predictions by their kind nor"),
        (two_columns, "which of its columns are the predictions isn't clear (it has: logits, probabilities)"),
        (an_unknown_name, "what the numbers of `output` are isn't told"),
    ],
)
def test_what_can_not_be_read_is_told_with_its_place(write: Any, found: str, tmp_path: Path) -> None:
    with pytest.raises(SoftlabError) as refused:
        choose_numbers(read(write(tmp_path)), PredictionOptions())

    assert found in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_classes_by_name_need_names_that_are_known(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", [chat_answer("a", {"cat": -0.1})])

    with pytest.raises(SourceError, match="Give a file with their names as `class_names`"):
        read(file)
    with pytest.raises(SourceError, match="none of 'cat' is the name of a class"):
        read(file, class_names=("horse", "cow"))


def test_batches_with_other_arrays_are_refused() -> None:
    with pytest.raises(SourceError, match="batch 2 has key, probabilities, the first one key, logits"):
        read([{"key": ["a"], "logits": P_NC[:1]}, {"key": ["b"], "probabilities": P_NC[1:2]}])
    with pytest.raises(SourceError, match="there are no batches"):
        read([])
