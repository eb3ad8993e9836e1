"""Whatever part of whatever store is pulled, its rows are those of the whole to the bit."""

from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softlab.manifest import StorePlan
from tests.sharing.pulling import assert_same_rows, open_uncached, pull_part_of_part
from tests.store.building import CODINGS, FORMATS, VALUES_CODINGS, digest_of_view, make_plan, with_digests, write_store

SHAPES: dict[str, tuple[int, ...]] = {"pooled": (6,), "map": (3, 2), "norm": ()}

plans = st.builds(
    lambda every, names, **values: with_digests(
        make_plan(features={name: SHAPES[name] for name in sorted(names)}, **values), every=every
    ),
    every=st.integers(0, 4),
    names=st.sets(st.sampled_from(sorted(SHAPES))),
    format=st.sampled_from(FORMATS),
    coding=st.sampled_from(CODINGS),
    values_coding=st.sampled_from(VALUES_CODINGS),
    num_samples=st.integers(1, 13),
    num_views=st.integers(1, 4),
    shard_rows=st.sampled_from([2, 4, 8]),
)
_numbers = count()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans, data=st.data())
def test_the_rows_of_any_part_are_those_of_the_whole(tmp_path: Path, plan: StorePlan, data: st.DataObject) -> None:
    folder = tmp_path / str(next(_numbers))
    write_store(folder / "whole", plan)
    whole, part = open_uncached(folder / "whole"), pull_part_of_part(folder / "whole", data)

    assert_same_rows(part.store, whole, views=part.views, features=part.features, samples=part.samples)
    for own_view, view in enumerate(part.views):
        found = part.store.read_pixel_digests(own_view)
        expected = {digest_of_view(view, sample) for sample in whole.read_pixel_digests(view).store_D.tolist()}
        ours = {digest_of_view(view, sample) for sample in part.samples}
        assert set(found.digests_D.tolist()) == expected & ours
        assert [digest_of_view(view, part.samples[place]) for place in found.store_D] == found.digests_D.tolist()
