"""Rows of several views at once."""

# Shape letters: B rows asked for.

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption
from softlab.manifest import StorePlan
from softlab.store.cache import CacheOptions
from softlab.store.format import FormatName
from softlab.store.reader import Store, open_store
from tests.store.building import FORMATS, make_arrays, make_plan, write_store
from tests.teacher.dumping import assert_same_labels

PLAN = make_plan(num_views=4)
N, V = PLAN.source.num_samples, PLAN.views.num_views

rows = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, V - 1)), max_size=30)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """In both formats, with the row cache and without."""
    folder = tmp_path_factory.mktemp("stores")
    for format in FORMATS:
        write_store(folder / format, plan_in(format))
    caches = [CacheOptions(max_bytes=0), CacheOptions(dir=folder / "cache")]
    return [open_store(folder / format, cache=cache) for format in FORMATS for cache in caches]


def plan_in(format: FormatName) -> StorePlan:
    return make_plan(num_views=V, format=format)


@given(rows=rows)
def test_each_row_is_that_of_its_sample_in_its_view(stores: list[Store], rows: list[tuple[int, int]]) -> None:
    samples, views = [sample for sample, _ in rows], [view for _, view in rows]

    stored = make_arrays(PLAN)
    for store in stores:
        found = store.read(samples, view=views)
        assert found.class_ids_BK.tolist() == stored["outputs/logits/class_ids"][views, samples].tolist()
        assert (
            found.max_logit_B.tolist() == stored["outputs/logits/max_logit"][views, samples].astype(np.float32).tolist()
        )
        pooled = store.read_features("pooled", samples, view=views)
        assert pooled.equal(torch.from_numpy(stored["outputs/pooled/values"][views, samples].astype(np.float32)))


@given(samples=st.lists(st.integers(0, N - 1), max_size=20), view=st.integers(0, V - 1))
def test_one_view_for_all_rows_is_the_same_as_that_view_for_each(
    stores: list[Store], samples: list[int], view: int
) -> None:
    for store in stores:
        assert_same_labels(store.read(samples, view=view), store.read(samples, view=[view] * len(samples)))
        assert_same_labels(store.read(samples, view=np.int64(view)), store.read(samples, view=view))


@pytest.mark.parametrize("views", [[0, V], [-1, 0], [V + 3, 1]])
def test_a_row_in_a_view_that_is_not_there_is_refused_with_the_next_step(stores: list[Store], views: list[int]) -> None:
    outside = next(view for view in views if not 0 <= view < V)
    expected = (
        f"has views 0 to 3, not {outside}. Ask for one of those, or add views with `softlab dump-teacher --views +N`."
    )

    for store in stores:
        with pytest.raises(InvalidOption, match=re.escape(expected)):
            store.read([0, 1], view=views)
        with pytest.raises(InvalidOption, match=re.escape(expected)):
            store.read_features("pooled", [0, 1], view=views)


@pytest.mark.parametrize("views", [[0, 1], [0, 1, 2, 3], [[0, 1, 2]], []])
def test_as_many_views_as_samples_are_needed_or_one(stores: list[Store], views: list[int]) -> None:
    with pytest.raises(InvalidOption, match=r"views for 3 samples\. Ask for one view, or one each\."):
        stores[0].read([0, 1, 2], view=views)


@pytest.mark.parametrize("views", [0.0, [True, False], ["0", "1"]])
def test_what_is_no_view_number_is_refused(stores: list[Store], views: object) -> None:
    with pytest.raises(InvalidOption, match=re.escape("values don't number views. Ask by view numbers.")):
        stores[0].read([0, 1], view=views)  # type: ignore[arg-type]


def test_only_the_views_asked_for_are_read(tmp_path: Path) -> None:
    """So that a reader may hold some views of a store only."""
    write_store(tmp_path / "store", plan_in("parquet"))
    for view in (0, 3):
        for part in (tmp_path / f"store/outputs/logits/view={view:05d}").iterdir():
            part.unlink()
    store = open_store(tmp_path / "store", cache=CacheOptions(max_bytes=0))

    found = store.read([3, 10, 3], view=[1, 2, 2])

    assert found.class_ids_BK.tolist() == make_arrays(PLAN)["outputs/logits/class_ids"][[1, 2, 2], [3, 10, 3]].tolist()
