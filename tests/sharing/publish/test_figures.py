from pathlib import Path

import msgspec
import numpy as np
import pytest

from softlab.errors import DamagedStore
from softlab.labels.captured import captured_mass, confidence
from softlab.manifest import ClassesRecord
from softlab.sharing.publish import figures as module
from softlab.sharing.publish.figures import BINS, Figures, encode_figures, measure_figures
from softlab.store.reader import open_store
from tests.store.building import CODINGS, FORMATS, flip_byte, make_plan, write_store


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("coding", CODINGS)
def test_every_row_of_a_small_store_is_counted(tmp_path: Path, format: str, coding: str) -> None:
    write_store(tmp_path, make_plan(format=format, coding=coding))  # type: ignore[arg-type]
    store = open_store(tmp_path)

    figures = measure_figures(store)

    rows = [store.read(range(11), view=view) for view in range(2)]
    sure = np.concatenate([confidence(labels, temperature=1.0) for labels in rows])
    mass = np.concatenate([captured_mass(labels) for labels in rows])
    assert (figures.digest, figures.rows, figures.temperatures) == (store.digest, 22, (1.0, 4.0))
    assert figures.confidence == tuple(np.bincount((sure * BINS).astype(int), minlength=BINS))
    for column, counts in enumerate(figures.captured_mass):
        assert counts == tuple(np.bincount(np.minimum(mass[:, column] * BINS, BINS - 1).astype(int), minlength=BINS))


def test_of_many_shards_some_are_read_at_equal_distances(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan(num_samples=80, num_views=1, shard_rows=2))

    assert measure_figures(open_store(tmp_path)).rows == 64


def test_of_large_shards_some_rows_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 8)
    write_store(tmp_path, make_plan(num_samples=12, num_views=1, shard_rows=4))

    assert measure_figures(open_store(tmp_path)).rows == 6


def test_where_one_is_no_stored_temperature_confidence_is_that_at_the_lowest(tmp_path: Path) -> None:
    plan = make_plan()
    labels, *others = plan.outputs
    assert isinstance(labels, ClassesRecord)
    selection = msgspec.structs.replace(labels.selection, temperatures=(2.0, 4.0))
    outputs = (msgspec.structs.replace(labels, selection=selection), *others)
    write_store(tmp_path, msgspec.structs.replace(plan, outputs=outputs))

    assert measure_figures(open_store(tmp_path)).confidence_temperature == 2.0


def test_a_damaged_store_has_no_figures(tmp_path: Path) -> None:
    manifest = write_store(tmp_path, make_plan(format="parquet"))
    flip_byte(tmp_path / manifest.shards[0].files[0].path)

    with pytest.raises(DamagedStore, match="softlab verify"):
        measure_figures(open_store(tmp_path))


def test_figures_are_read_back_as_they_were(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    figures = measure_figures(open_store(tmp_path))

    assert msgspec.json.decode(encode_figures(figures), type=Figures) == figures
