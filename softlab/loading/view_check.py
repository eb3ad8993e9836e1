"""Are the views that a student would see those that the teacher saw? Compared pixel by pixel before the first step."""

from importlib.metadata import version

import numpy as np
import torch

from softlab.errors import StoreMismatch
from softlab.indices import StoreIndex
from softlab.loading.sample_check import VerifyInputs
from softlab.modalities.modality import Modality, decode_sample, is_of_a_store
from softlab.modalities.views import Replay, describe_views
from softlab.sources.source import Source
from softlab.store.reader import Store

VIEWS_COMPARED = 8
"""Random ones, where not all are asked for."""

SAMPLES_COMPARED = 8
"""Random ones of each such view."""

IN_TRAINING = (
    "Install those versions, dump again, or train on other views than the teacher's by saying "
    "`check.views_mismatch = allow`."
)


def store_replay(store: Store, store_N: StoreIndex, modality: Modality) -> Replay:
    """What makes the views of a store; `store_N` is from `align`. Raises StoreMismatch where a view may be mixed with
    a sample that the source lacks."""
    views = store.manifest.views
    recipe_N = store.read_recipe_indices() if views.transforms else None
    replay = modality.replay(views, num_samples=store.num_samples, recipe_N=recipe_N)
    if replay.mixes and not np.array_equal(store_N, np.arange(store.num_samples)):
        raise StoreMismatch(
            f"{store.name}: its views are mixed with any of its {store.num_samples:,} samples (MixUp, CutMix), so they "
            f"can't be replayed from a source that holds a part of them, or another order. Give the whole source; "
            f"`run.max_samples` trains on its first samples only."
        )
    return replay


def check_views(
    source: Source,
    store: Store,
    store_N: StoreIndex,
    replay: Replay,
    modality: Modality,
    *,
    verify: VerifyInputs = "some",
    next_step: str = IN_TRAINING,
) -> None:
    """Replay some of the views whose pixel digests the store keeps, or all. Raises StoreMismatch for a pixel that
    differs, naming the first such view and both sides' library versions."""
    order = np.argsort(store_N, kind="stable")

    def source_of(store_index: int) -> int:
        return int(order[np.searchsorted(store_N, store_index, sorter=order)])

    compared, differing = 0, []
    for view, samples, digests in _chosen(store, store_N, all_of_them=verify == "all"):
        compared += len(samples)
        for store_index, digest in zip(
            samples, digests, strict=True
        ):  # one by one: all of a view may not fit the memory
            (seen,) = replay.views(
                [store_index], [view], lambda index: decode_sample(source.read(source_of(index)), modality)
            )
            if not is_of_a_store(modality, seen.example) and modality.digest(seen.example) != digest:
                differing.append((view, store_index))
    if differing:
        view, store_index = differing[0]
        names = ("torch", *modality.libraries)
        theirs = ", ".join(f"{name} {store.manifest.libraries.get(name, 'unknown')}" for name in names)
        ours = ", ".join(f"{name} {version(name)}" for name in names)
        processor = torch.backends.cpu.get_cpu_capability()
        same = f"These are the same, so this processor ({processor}) may round otherwise. " if ours == theirs else ""
        raise StoreMismatch(
            f"{store.name}: view {view} of sample {source.keys[source_of(store_index)]!r} isn't what the teacher saw: "
            f"its pixels differ, as do those of {len(differing):,} of {compared:,} views compared. The store was made "
            f"with {theirs}; here are {ours}. {same}{next_step}"
        )


def check_recipe(store: Store, *, asked: str, fingerprint: str) -> None:
    """Raises StoreMismatch unless the views asked for are the store's."""
    if fingerprint != store.manifest.views.fingerprint:
        raise StoreMismatch(
            f"{store.name}: the teacher saw other views: {describe_views(store.manifest.views)}. [augment] asks for "
            f"{asked}. Leave [augment] out, and the store's own views are replayed; or train on other views than the "
            f"teacher's by saying `check.views_mismatch = allow`."
        )


def _chosen(store: Store, store_N: StoreIndex, *, all_of_them: bool) -> list[tuple[int, list[int], list[int]]]:
    """View, samples and their digests, in ascending order."""
    random = np.random.default_rng()
    views = np.arange(store.num_views)
    if not all_of_them:
        views = np.sort(random.permutation(views)[:VIEWS_COMPARED])
    chosen = []
    for view in views.tolist():
        kept = store.read_pixel_digests(view)
        places = np.flatnonzero(np.isin(kept.store_D, store_N))
        if not all_of_them:
            places = np.sort(random.permutation(places)[:SAMPLES_COMPARED])
        chosen.append((view, kept.store_D[places].tolist(), kept.digests_D[places].tolist()))
    return chosen
