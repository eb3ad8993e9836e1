"""Are the views that a student would see those that the teacher saw? Compared pixel by pixel before the first step."""

from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from softlab.errors import StoreMismatch
from softlab.loading.alignment import VerifyInputs
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.views.replay import Replay, pixel_digest
from softlab.views.view_recipe import describe_views

VIEWS_COMPARED = 8
"""Random ones, where not all are asked for."""

SAMPLES_COMPARED = 8
"""Random ones of each such view."""

IN_TRAINING = (
    "Install those versions, dump again, or train on other views than the teacher's by saying --views-mismatch allow."
)

DRAWING = ("torch", "torchvision", "pillow", "numpy")
"""Libraries that decide the pixels of a view."""


def store_replay(store: Store, numbers_N: NDArray[np.int64]) -> Replay:
    """What makes the views of a store; `numbers_N` is from `align`. Raises StoreMismatch where a view may be mixed with
    a sample that the source lacks."""
    views = store.manifest.views
    numbers_seen_N = store.read_samples().numbers_N if views.transforms else None
    replay = Replay(views, num_samples=store.num_samples, numbers_N=numbers_seen_N)
    if replay.mixes and not np.array_equal(numbers_N, np.arange(store.num_samples)):
        raise StoreMismatch(
            f"{store.name}: its views are mixed with any of its {store.num_samples:,} samples (MixUp, CutMix), so they "
            f"can't be replayed from a source that holds a part of them, or another order. Give the whole source; "
            f"--max-samples trains on its first samples only."
        )
    return replay


def check_views(
    source: Source,
    store: Store,
    numbers_N: NDArray[np.int64],
    replay: Replay,
    *,
    verify: VerifyInputs = "some",
    next_step: str = IN_TRAINING,
) -> None:
    """Replay some of the views whose pixel digests the store keeps, or all. Raises StoreMismatch for a pixel that
    differs, naming the first such view and both sides' library versions."""
    source_numbers = {number: own for own, number in enumerate(numbers_N.tolist())}
    compared, differing = 0, []
    for view, samples, digests in _chosen(store, numbers_N, all_of_them=verify == "all"):
        compared += len(samples)
        for number, digest in zip(samples, digests, strict=True):  # one by one: all of a view may not fit the memory
            (seen,) = replay.views([number], [view], lambda number: source.read(source_numbers[number]).image_CHW)
            if pixel_digest(seen.image_CHW) != digest:
                differing.append((view, number))
    if differing:
        view, number = differing[0]
        theirs = ", ".join(f"{name} {store.manifest.libraries.get(name, 'unknown')}" for name in DRAWING)
        ours = ", ".join(f"{name} {version(name)}" for name in DRAWING)
        processor = torch.backends.cpu.get_cpu_capability()
        same = f"These are the same, so this processor ({processor}) may round otherwise. " if ours == theirs else ""
        raise StoreMismatch(
            f"{store.name}: view {view} of sample {source.keys[source_numbers[number]]!r} isn't what the teacher saw: "
            f"its pixels differ, as do those of {len(differing):,} of {compared:,} views compared. The store was made "
            f"with {theirs}; here are {ours}. {same}{next_step}"
        )


def check_recipe(store: Store, *, asked: str, fingerprint: str) -> None:
    """Raises StoreMismatch unless the views asked for are the store's."""
    if fingerprint != store.manifest.views.fingerprint:
        raise StoreMismatch(
            f"{store.name}: the teacher saw other views: {describe_views(store.manifest.views)}. [augment] asks for "
            f"{asked}. Leave [augment] out, and the store's own views are replayed; or train on other views than the "
            f"teacher's by saying --views-mismatch allow."
        )


def _chosen(store: Store, numbers_N: NDArray[np.int64], *, all_of_them: bool) -> list[tuple[int, list[int], list[int]]]:
    """View, samples and their digests, in ascending order."""
    random = np.random.default_rng()
    views = np.arange(store.num_views)
    if not all_of_them:
        views = np.sort(random.permutation(views)[:VIEWS_COMPARED])
    chosen = []
    for view in views.tolist():
        kept = store.read_pixel_digests(view)
        places = np.flatnonzero(np.isin(kept.samples_D, numbers_N))
        if not all_of_them:
            places = np.sort(random.permutation(places)[:SAMPLES_COMPARED])
        chosen.append((view, kept.samples_D[places].tolist(), kept.digests_D[places].tolist()))
    return chosen
