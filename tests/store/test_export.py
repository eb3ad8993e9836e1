"""What is exported is what the store says, and what is imported again."""

# Shape letters: N samples, C classes.

import itertools
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from softlab.errors import InvalidOption, SoftlabError, StoreExists
from softlab.labels.dense import dense_probabilities
from softlab.predictions.options import PredictionOptions
from softlab.store import export
from softlab.store.cache import CacheOptions
from softlab.store.export import export_targets
from softlab.store.reader import open_store
from softlab.teacher.import_predictions import import_predictions
from softlab.teacher.options import DumpOptions
from tests.forks import run_in_fork
from tests.kills import before_change, kill_this_process
from tests.teacher.dumping import NUM_CLASSES, Pictures, dump, make_options, read_all

N = len(Pictures())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "store"
    dump(folder, make_options(coding="float32", feature={"conv": "conv:mean"}))
    return folder


def read_table(file: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Keys and numbers."""
    if file.suffix == ".npz":
        with np.load(file) as opened:
            return opened["key"].tolist(), opened["probabilities"]
    table = pa_read(file)
    keys = table.column("key").to_pylist()
    if file.suffix == ".parquet":
        return keys, np.array(table.column("probabilities").to_pylist())
    return keys, np.stack([table.column(name).to_numpy() for name in table.column_names[1:]], axis=1)


def pa_read(file: Path) -> Any:
    return pq.read_table(file) if file.suffix == ".parquet" else pyarrow.csv.read_csv(file)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_probabilities_are_those_of_the_labels_with_keys(
    suffix: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BLOCK_NUMBERS", 7 * NUM_CLASSES)  # several blocks, the last one ragged
    store, labels = read_all(path)
    told: list[tuple[int, int]] = []

    rows = export_targets(
        store, tmp_path / f"t{suffix}", temperature=2.0, on_rows=lambda done, total: told.append((done, total))
    )

    keys, p_NC = read_table(tmp_path / f"t{suffix}")
    assert rows == N
    assert told[-1] == (N, N)
    assert keys == list(Pictures().keys)
    np.testing.assert_allclose(p_NC, dense_probabilities(labels, temperature=2.0).numpy(), rtol=1e-6)


def test_the_columns_of_a_csv_file_are_the_names_of_the_classes(path: Path, tmp_path: Path) -> None:
    store, _ = read_all(path)

    export_targets(store, tmp_path / "t.csv")

    assert pa_read(tmp_path / "t.csv").column_names == ["key", *(store.class_names or ())]


def test_argmax_is_the_first_class_by_number_and_name(path: Path, tmp_path: Path) -> None:
    store, labels = read_all(path)

    export_targets(store, tmp_path / "t.csv", targets="argmax")

    table = pa_read(tmp_path / "t.csv")
    first = labels.class_ids_BK[:, 0].tolist()
    assert table.column("class_id").to_pylist() == first
    assert table.column("class").to_pylist() == [f"class {number}" for number in first]
    p_NC = dense_probabilities(labels)
    np.testing.assert_allclose(table.column("max_prob"), p_NC.max(dim=1).values.numpy(), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_the_kept_classes_are_imported_again_with_the_same_tail(suffix: str, path: Path, tmp_path: Path) -> None:
    store, labels = read_all(path)
    export_targets(store, tmp_path / f"t{suffix}", targets="top_k")

    import_predictions(
        tmp_path / f"t{suffix}",
        Pictures(),
        tmp_path / "again",
        PredictionOptions(num_classes=NUM_CLASSES),
        dump=DumpOptions(coding="float32"),
    )

    _, again = read_all(tmp_path / "again")
    assert again.class_ids_BK.tolist() == labels.class_ids_BK.tolist()
    np.testing.assert_allclose(again.log_tail_BT[:, 0], labels.log_tail_BT[:, 0], rtol=1e-4, atol=1e-4)


def test_values_are_exported_as_they_are(path: Path, tmp_path: Path) -> None:
    store, _ = read_all(path)

    export_targets(store, tmp_path / "t.parquet", targets="values")

    found = np.array(pa_read(tmp_path / "t.parquet").column("values").to_pylist())
    np.testing.assert_array_equal(found, store.read_features("conv", np.arange(N)).numpy())


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        ("t.txt", {}, "targets are written as .parquet, .csv, .npz"),
        ("t.csv", {"targets": "top_k"}, "a CSV file holds no lists"),
        ("t.csv", {"view": 1}, "has views 0 to 0"),
        ("t.csv", {"targets": "logits"}, "expected one of probabilities, top_k, argmax, values"),
        ("t.csv", {"temperature": 0.5}, "a tail can't be rebuilt below"),
    ],
)
def test_what_can_not_be_exported_is_refused_and_leaves_no_file(
    name: str, options: dict[str, Any], found: str, path: Path, tmp_path: Path
) -> None:
    store, _ = read_all(path)

    with pytest.raises(SoftlabError) as refused:
        export_targets(store, tmp_path / name, **options)

    assert found in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_replaced(path: Path, tmp_path: Path) -> None:
    store, _ = read_all(path)
    (tmp_path / "t.csv").write_text("mine")

    with pytest.raises(StoreExists, match="is there already"):
        export_targets(store, tmp_path / "t.csv")

    assert (tmp_path / "t.csv").read_text() == "mine"


def test_a_store_of_values_alone_has_no_classes_to_export(tmp_path: Path) -> None:
    dump(tmp_path / "store", make_options(k=None, output=("embedding:values",)))
    store = open_store(tmp_path / "store", cache=CacheOptions(max_bytes=0))

    with pytest.raises(InvalidOption, match="holds values alone, no classes"):
        export_targets(store, tmp_path / "t.csv")
    export_targets(store, tmp_path / "t.csv", targets="values")

    assert len(pa_read(tmp_path / "t.csv").column_names) == 1 + NUM_CLASSES


@pytest.mark.process
def test_an_export_that_is_killed_leaves_no_half_file_and_nothing_behind_the_next_one(
    path: Path, tmp_path: Path
) -> None:
    for number in itertools.count(1):
        out = tmp_path / str(number) / "t.npz"
        out.parent.mkdir()
        code = run_in_fork(export_and_die, path, out, number)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if not out.exists():
            export_targets(open_store(path), out)
        assert [each.name for each in out.parent.iterdir()] == ["t.npz"]
        assert read_table(out)[0] == list(Pictures().keys)

    assert number > 2


def export_and_die(path: Path, out: Path, number: int) -> None:
    torch.set_num_threads(1)
    before_change(out.parent, number, kill_this_process)
    export_targets(open_store(path, cache=CacheOptions(max_bytes=0)), out)
