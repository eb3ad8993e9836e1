"""What the commands say to stores and sources that they can't use: one line, and no traceback."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.cli.program import (
    INPUT,
    TRAIN,
    Softlab,
    assert_refused,
    demo_rows,
    train,
    write_rows,
)

READERS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "inspect": lambda store, out: ("inspect", store),
    "verify": lambda store, out: ("verify", store),
    "convert": lambda store, out: ("convert", store, out, "--format", "parquet"),
    "train-student": train,
    "evaluate": lambda store, out: ("evaluate", "--model", "softlab:grey_mlp", *INPUT, *TRAIN, "--store", store),
}


@pytest.mark.parametrize("command", READERS)
def test_what_is_no_store_is_refused(tmp_path: Path, softlab: Softlab, command: str) -> None:
    answer = softlab(*READERS[command](tmp_path, tmp_path / "out"))

    assert_refused(answer, f"{tmp_path}/manifest.json: is missing, so this is not a softlab store. Check the address")


@pytest.mark.parametrize("command", ["train-student", "evaluate"])
def test_a_source_with_a_changed_sample_is_refused_by_its_key(
    tmp_path: Path, stores: Path, softlab: Softlab, command: str
) -> None:
    rows = demo_rows(200).to_pylist()
    rows[7]["image"]["bytes"] = rows[8]["image"]["bytes"]
    source = write_rows(tmp_path / "train", pa.Table.from_pylist(rows, schema=demo_rows(0).schema))
    arguments = READERS[command](stores / "train.zarr", tmp_path / "out")

    answer = softlab(*arguments, "--source", source, "--set", "check.verify_inputs=all")

    assert_refused(answer, "is not what the teacher saw: its content hash differs.", "or dump again.")


@pytest.mark.filterwarnings("default::softlab.errors.InterpolatedTail")
def test_a_temperature_that_is_not_stored_is_interpolated_and_said_once(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", "--temperature", "3"))

    assert answer.code == 0
    (note,) = answer.err.splitlines()
    assert note.startswith("note: ")
    assert "temperature 3 is not stored (stored: 1, 2, 4): its tail mass is interpolated: " in note
    assert "nats, at most 0." in note
    assert answer.out.count("of the teacher's probability at the temperature of training, T=3\n") == 1
