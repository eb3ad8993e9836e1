from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.modalities.opening import open_source
from softlab.sources.spread import spread_indices
from softlab.sources.subset import spread_over


@given(num_samples=st.integers(1, 1 << 40), data=st.data())
def test_each_of_equal_stretches_has_one_sample(num_samples: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(num_samples, 300)))

    found_S = spread_indices(num_samples, count=count)

    stretches = np.arange(count + 1) * num_samples // count
    assert (found_S >= stretches[:-1]).all()
    assert (found_S < stretches[1:]).all()


@pytest.mark.parametrize("num_classes", [2, 3, 7, 10, 16, 100])
@pytest.mark.parametrize("every", [1, 2, 5, 10, 100])
def test_a_source_that_goes_through_its_classes_in_turn_shows_them_alike(num_classes: int, every: int) -> None:
    """Every n-th sample would be of one class alone where n is a multiple of the number of classes."""
    found_S = spread_indices(128 * every * num_classes, count=128)

    counts = np.bincount(found_S % num_classes, minlength=num_classes)
    assert counts.min() >= 0.75 * (128 // num_classes) - 1
    assert counts.max() <= 1.25 * (128 // num_classes) + 2


def test_some_samples_of_a_source_are_of_all_classes_where_these_take_turns(tmp_path: Path) -> None:
    table = pa.table({"image": [bytes([number]) for number in range(200)], "label": [0, 1, 2, 3, 4] * 40})
    pq.write_table(table, tmp_path / "turns.parquet")

    some = spread_over(open_source(str(tmp_path / "turns.parquet")), 20)

    assert set(some.targets["label"].tolist()) == {0, 1, 2, 3, 4}
