"""Files of predictions that claim what they don't hold: one line that names them, before there is room for it."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softlab.errors import SourceError
from softlab.predictions.options import PredictionOptions
from softlab.predictions.read import read_predictions
from tests.predictions.files import write_lines

TERABYTE = 10**12


def refusal(file: Path) -> str:
    with pytest.raises(SourceError) as refused:
        read_predictions(file, PredictionOptions(kind="logits"), class_names=("cat", "dog"))
    assert str(refused.value).startswith(str(file.parent))
    return str(refused.value).partition(": ")[2]


def give_one_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of memory."""
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1_000, "SC_PHYS_PAGES": 1_000}.get)


def npy(array: Any) -> bytes:
    data = io.BytesIO()
    np.save(data, np.asarray(array))
    return data.getvalue()


def npy_of(shape: str, *, dtype: str = "<f8", data: bytes = bytes(48)) -> bytes:
    """Whatever its header says."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def write_npz(file: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as opened:
        for name, data in ({"key": npy(["a", "b"]), "logits": npy(np.zeros((2, 3)))} | members).items():
            opened.writestr(f"{name}.npy", data)
    return file


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"logits": npy_of("(2, 999999999999)")}, "logits.npy says it has 15,999,999,999,984 bytes, and has 48"),
        ({"logits": npy_of("(2, -3)")}, "logits.npy says it has -48 bytes"),
        ({"logits": npy_of("(2, 3")}, "can't be read as npz"),
        ({"logits": npy_of("(2, 3)", dtype="|O")}, "Object arrays cannot be loaded"),
        ({"logits": b"no array"}, "the magic string is not correct"),
        ({"key": npy_of("(99999999999,)", dtype="<U0", data=b"")}, "key.npy says it has 99,999,999,999 bytes"),
        ({"key": npy_of("(2,)", dtype="<U1", data=b"\xff" * 8)}, "its `key` are no text"),
        ({"key": npy_of("(2,)", dtype="<U2", data=b"a\0\0\0\0\0\x11\0" * 2)}, "there is no character 0x110000"),
        ({"key": npy_of("(2,)", dtype="<U1", data=b"\x00\xd8\x00\x00" * 2)}, "its `key` are no text"),
        ({"class_names": npy(3)}, "its `class_names` are int64 with 0 axes"),
        ({"content_hash": npy([TERABYTE, 1])}, "its `content_hash` holds a int64, expected hex digits"),
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused(members: dict[str, bytes], found: str, tmp_path: Path) -> None:
    assert found in refusal(write_npz(tmp_path / "p.npz", members))


def test_a_flipped_bit_of_an_npz_file_is_found_by_its_checksum(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "p.npz", {}, compression=zipfile.ZIP_STORED)
    data = bytearray(file.read_bytes())
    data[data.rindex(bytes(48)) + 30] ^= 1
    file.write_bytes(data)

    assert "Bad CRC-32" in refusal(file)


def test_an_archive_that_decodes_to_more_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_npz(tmp_path / "p.npz", {"logits": npy(np.zeros((2, 1_000_000)))})
    give_one_megabyte(monkeypatch)

    assert "takes 16.0 MB, and this machine has 1.0 MB" in refusal(file)


def test_runs_of_one_number_count_as_the_numbers_that_they_stand_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "p.parquet"
    pq.write_table(pa.table({"logits": np.zeros(1_000_000)}), file)
    assert file.stat().st_size < 10_000
    give_one_megabyte(monkeypatch)

    assert "takes 8.0 MB, and this machine has 1.0 MB" in refusal(file)


def test_one_long_text_that_stands_for_many_is_refused(tmp_path: Path) -> None:
    texts = pa.DictionaryArray.from_arrays(np.zeros(10**6, dtype=np.int32), pa.array(["x" * 10**6]))
    table = pa.table({"key": texts, "logits": np.zeros(10**6)})
    pq.write_table(table, tmp_path / "p.parquet", store_schema=False)

    assert "takes 1.0 TB, and this machine has" in refusal(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"logits": [["a"], ["b", "c"]]}, "`logits` holds lists of string"),
        ({"logits": [[[1.0]], [[1.0], [2.0, 3.0]]]}, "its `logits` can't be read as lists of numbers"),
        ({"key": [[1], [2]], "logits": [[1.0], [2.0]]}, "its keys `key` are list"),
        ({"content_hash": [TERABYTE, 1], "logits": [[1.0], [2.0]]}, "its `content_hash` holds a int"),
    ],
)
def test_columns_of_other_types_are_refused(columns: dict[str, Any], found: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a", "b"]} | columns), tmp_path / "p.parquet")

    assert found in refusal(tmp_path / "p.parquet")


def test_a_million_columns_without_names_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("key" + "," * 1_000_000 + "\na,1\n")

    assert "two columns have the same name, ''" in refusal(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ('{"key":"a","logits":' + '{"a":' * 100_000, "line 1 isn't a whole record"),
        ('{"key":"a","logits":[1' + "0" * 400 + "]}", "line 1: its `logits` are not all numbers"),
        ('{"key":"a","logits":["1"]}', "line 1: its `logits` are not all numbers"),
        ('{"key":"a","logits":{"cat":1' + "0" * 400 + "}}", "line 1: what it says of 'cat' is no number"),
        ('{"key":"a","log_probabilities":{"cat":null}}', "line 1: what it says of 'cat' is no number"),
        ('{"key":"a","choices":[{"logprobs":{"top_logprobs":[[1]]}}]}', "line 1: has neither predictions"),
    ],
    ids=["deep", "larger than any type", "text", "larger than any type, by name", "null", "no answer"],
)
def test_records_that_are_not_what_they_seem_are_refused(record: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(record + "\n")

    assert found in refusal(tmp_path / "p.jsonl")


def test_one_long_record_among_many_short_ones_is_not_filled_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [[0.0] * 2_000, *[[0.0]] * 1_999]
    write_lines(tmp_path / "p.jsonl", [{"key": str(place), "logits": row} for place, row in enumerate(rows)])
    give_one_megabyte(monkeypatch)

    assert "its `logits` are of several shapes: takes 32.0 MB" in refusal(tmp_path / "p.jsonl")


def test_a_pipe_is_no_file_of_predictions(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.npz")

    assert refusal(tmp_path / "p.npz").startswith("there is no such file of predictions")
