"""Whatever part of whatever store is pulled, its rows are those of the whole to the bit."""

from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softlab.manifest import StorePlan
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.store.verify import verify_store
from tests.sharing.pulling import assert_same_rows, open_uncached, write_keys
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


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans, data=st.data())
def test_the_rows_of_any_part_are_those_of_the_whole(tmp_path: Path, plan: StorePlan, data: st.DataObject) -> None:
    folder = tmp_path / str(next(_numbers))
    write_store(folder / "whole", plan)
    whole, chosen = open_uncached(folder / "whole"), "whole"
    views, features = range(whole.num_views), whole.feature_names
    samples = list(range(whole.num_samples))

    for step in range(2):  # the second one a part of a part
        first = data.draw(st.integers(0, len(views) - 1))
        last = data.draw(st.integers(first, len(views) - 1))
        kept = data.draw(st.sets(st.sampled_from(features))) if features else set()
        places = sorted(data.draw(st.sets(st.integers(0, len(samples) - 1), min_size=1)))
        views, samples = views[first : last + 1], [samples[place] for place in places]
        features = tuple(name for name in features if name in kept)
        keys = write_keys(folder / "keys.txt", [f"{sample:03d}.png" for sample in samples])
        options = PullOptions(views=f"{first}-{last}", features=features, samples=keys, jobs=2)
        pull(folder / chosen, folder / f"part {step}", options)
        chosen = f"part {step}"

    part = open_uncached(folder / chosen)
    assert verify_store(folder / chosen).is_intact
    assert_same_rows(part, whole, views=views, features=features, samples=samples)
    for own_view, view in enumerate(views):
        found = part.read_pixel_digests(own_view)
        expected = {digest_of_view(view, sample) for sample in whole.read_pixel_digests(view).store_D.tolist()}
        ours = {digest_of_view(view, sample) for sample in samples}
        assert set(found.digests_D.tolist()) == expected & ours
        assert [digest_of_view(view, samples[place]) for place in found.store_D] == found.digests_D.tolist()
