"""Published stores to pull from, and what is expected of the copies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from softlab.manifest import StorePlan
from softlab.sharing.publish.push import PushOptions, push
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
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
