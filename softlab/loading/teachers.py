"""Several stores of one source: do they hold the same rows, and which of them holds a feature?"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, StoreMismatch, suggest
from softlab.manifest import StorePlan
from softlab.modalities.views import describe_views
from softlab.store.reader import Store


def check_same_rows(stores: Sequence[Store], *, over_same_classes: bool = True) -> None:
    """Raises StoreMismatch unless row (view, sample) is the same view of the same sample in all stores, over the same
    classes in the same order, where that is asked for."""
    first = stores[0]
    for other in stores[1:]:
        difference = _difference(other, first, over_same_classes=over_same_classes)
        if difference is not None:
            raise StoreMismatch(f"{other.name}: {difference}")


def find_features(stores: Sequence[Store], names: Iterable[str]) -> dict[str, Store]:
    """The store that holds each feature. Raises InvalidOption if none does, or several do."""
    found: dict[str, Store] = {}
    for name in names:
        holders = [store for store in stores if name in store.feature_names]
        if not holders:
            held = ", ".join(sorted({each for store in stores for each in store.feature_names})) or "none"
            raise InvalidOption(
                f"feature {name!r}: no store holds it (they hold: {held}). Dump it as `dump.feature.{name}`, or "
                f"leave it out."
            )
        if len(holders) > 1:
            raise InvalidOption(
                f"feature {name!r}: {' and '.join(store.name for store in holders)} hold one of this name. Dump "
                f"them with another name in each, or leave it out."
            )
        found[name] = holders[0]
    return found


def find_values(stores: Sequence[Store], output: str) -> dict[str, Store]:
    """The store that holds an output of kind `values` which models give with their own. Raises InvalidOption if none
    does, or several do, StoreMismatch where it has a row for each unit of a sample."""
    held = sorted({name for store in stores for name in store.feature_names})
    if output not in held:
        raise InvalidOption(
            f"output {output!r}: {' and '.join(store.name for store in stores) or 'no store'} holds no values of this "
            f"name (values: {', '.join(held) or 'none'}). {suggest(output, held)} Dump it as `dump.output = "
            f"{output}:values`, or name another."
        )
    found = find_features(stores, [output])
    for store in found.values():
        if any(each.name == output and each.units for each in store.manifest.values):
            raise StoreMismatch(
                f"{store.name}: its output {output} has a row for each unit of a sample, and vectors are compared one "
                f"a sample. Dump it pooled, as `dump.output = {output}:values=layer:LAYER:mean`."
            )
    return found


def _difference(ours: Store, theirs: Store, *, over_same_classes: bool) -> str | None:
    """What keeps two teachers from teaching together, and what to do about it."""
    our, their, name = ours.manifest, theirs.manifest, theirs.name
    both_labelled = over_same_classes and ours.has_labels and theirs.has_labels
    if both_labelled and (difference := _difference_of_labels(ours, theirs)) is not None:
        return difference
    if our.source_fingerprint != their.source_fingerprint:
        return (
            f"its {ours.num_samples:,} samples are not the {theirs.num_samples:,} of {name}. Dump both from the same "
            f"`source.path`."
        )
    if our.views.fingerprint != their.views.fingerprint:
        return (
            f"its views, {describe_views(our.views)}, are not those of {name}, {describe_views(their.views)}. Dump "
            f"both with the same [augment]."
        )
    if _is_random(our) and our.views.first != their.views.first:
        return (
            f"its first view is number {our.views.first:,} of the recipe, but that of {name} is number "
            f"{their.views.first:,}. Pull both with the same --views."
        )
    if _is_random(our) and not _same_recipe_indices(ours, theirs):
        return (
            f"its samples had other numbers when the teacher saw them than those of {name}, so their views differ. "
            f"Pull both with the same --samples, or dump one with the other as `like`."
        )
    if ours.num_views != theirs.num_views:
        return (
            f"has {ours.num_views:,} views, but {name} has {theirs.num_views:,}. Add views to the smaller one with "
            f"`softlab dump-teacher --views +N`."
        )
    return None


def _difference_of_labels(ours: Store, theirs: Store) -> str | None:
    """The same of two stores that both hold soft labels."""
    name = theirs.name
    if ours.num_classes != theirs.num_classes:
        return (
            f"has {ours.num_classes:,} classes, but {name} has {theirs.num_classes:,}. Choose teachers over the same "
            f"classes."
        )
    if ours.head != theirs.head:
        return f"has a {ours.head} head, but {name} has a {theirs.head} head. Choose teachers with the same head."
    if ours.labels.label_space.fingerprint != theirs.labels.label_space.fingerprint:
        return (
            f"its class names, or their order, are not those of {name}. Dump both from sources with the same class "
            f"names in the same order."
        )
    if not np.array_equal(_rows_of(ours), _rows_of(theirs)):
        return (
            f"its samples have other units than those of {name}. Dump both with teachers that answer at the same "
            f"positions."
        )
    return None


def _rows_of(store: Store) -> NDArray[np.int64]:
    """How many rows of soft labels each sample has; empty where each has one."""
    units = store.units if store.labels.units else None
    return np.empty(0, dtype=np.int64) if units is None else units.rows_N


def _is_random(plan: StorePlan) -> bool:
    return bool(plan.views.transforms) or plan.views.mixing is not None


def _same_recipe_indices(ours: Store, theirs: Store) -> bool:
    """Of the same samples: whether the recipe counts each alike."""
    if ours.manifest.source.chosen_from is None and theirs.manifest.source.chosen_from is None:
        return True
    own = np.arange(ours.num_samples)
    our, their = (store.read_recipe_indices() for store in (ours, theirs))
    return np.array_equal(own if our is None else our, own if their is None else their)
