"""Published stores to pull from, and what is expected of the copies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from softlab.manifest import StorePlan
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sharing.publish.push import PushOptions, push
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.store.verify import verify_store
from tests.store.building import copy_store, make_plan, with_digests

PUSH = PushOptions(licence="CC0-1.0", terms="")
FEATURES: dict[str, tuple[int, ...]] = {"pooled": (6,), "map": (3, 2)}


def plan_of_three_views(**values: object) -> StorePlan:
    """Three views of eleven samples in three shards each, two features, and a digest of every second view."""
    return with_digests(make_plan(**({"num_views": 3, "features": FEATURES} | values)), every=2)  # type: ignore[arg-type]


def publish(store: Path, place: object, *, name: str = "pets") -> str:
    """Its address, with the version."""
    return push(store, f"{place}/{name}", options=PUSH).address


def publish_new(folder: Path, place: object, plan: StorePlan | None = None) -> tuple[Path, str]:
    """A new store on a disk, and where it is published."""
    store = folder / "original"
    copy_store(store, plan or plan_of_three_views())
    return store, publish(store, place)


def open_uncached(path: Path | str) -> Store:
    return open_store(path, cache=CacheOptions(max_bytes=0))


def write_keys(path: Path, keys: Sequence[str]) -> Path:
    path.write_text("".join(f"{key}\n" for key in keys))
    return path


@dataclass(frozen=True, kw_only=True)
class PartOfPart:
    """What was left of a store when a part of it was pulled, and then a part of that."""

    store: Store
    views: Sequence[int]
    """The whole store's, as are features and samples."""

    features: tuple[str, ...]
    samples: Sequence[int]


def pull_part_of_part(whole: Path, data: st.DataObject) -> PartOfPart:
    """Any views, features and samples, drawn twice; the copies lie beside the store, and the last one is intact."""
    opened, chosen = open_uncached(whole), whole
    keys, features = opened.read_samples().keys, opened.feature_names
    views: Sequence[int] = range(opened.num_views)
    samples: Sequence[int] = range(opened.num_samples)
    for step in range(2):
        first = data.draw(st.integers(0, len(views) - 1))
        last = data.draw(st.integers(first, len(views) - 1))
        kept = data.draw(st.sets(st.sampled_from(features))) if features else set()
        places = sorted(data.draw(st.sets(st.integers(0, len(samples) - 1), min_size=1)))
        views, samples = views[first : last + 1], [samples[place] for place in places]
        features = tuple(name for name in features if name in kept)
        wanted = write_keys(whole.parent / "keys.txt", [keys[sample] for sample in samples])
        out = whole.parent / f"part {step}"
        pull(chosen, out, PullOptions(views=f"{first}-{last}", features=features, samples=wanted, jobs=2))
        chosen = out
    assert verify_store(chosen).is_intact
    return PartOfPart(store=open_uncached(chosen), views=views, features=features, samples=samples)


def assert_same_rows(
    part: Store, whole: Store, *, views: Sequence[int], features: Sequence[str], samples: Sequence[int]
) -> None:
    """To the bit, and neither more nor fewer of them."""
    assert part.num_views == len(views)
    assert part.feature_names == tuple(features)
    assert part.read_samples().keys == [whole.read_samples().keys[sample] for sample in samples]
    own = np.arange(part.num_samples)
    for own_view, view in enumerate(views):
        for feature in (None, *features):
            np.testing.assert_array_equal(
                part.read_packed(own, view=own_view, feature=feature),
                whole.read_packed(samples, view=view, feature=feature),
                strict=True,
            )
