"""Which row of a store belongs to which sample of a source: checked by key and content, never by position alone."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softlab.errors import StoreMismatch, first_few
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.indices import StoreIndex
from softlab.keys import Keys
from softlab.loading.mapped_targets import with_mapped_classes
from softlab.sources.known_classes import with_known_classes
from softlab.sources.source import Source, hard_targets
from softlab.store.key_join import find_among
from softlab.store.mapped import MappedStore
from softlab.store.reader import Store

VerifyInputs = Literal["some", "all"]

NO_CLASS = "N/A"

HASHED_AT_START = 64
"""Random samples re-hashed before the first step when not all are: data that was re-encoded or re-ordered shows at
once. The others are compared when they are first read."""

COMPARED_AT_A_TIME = 1 << 16
"""Samples whose content hashes are in memory, where there are very many."""

OTHER_CONTENT = "Point `source.path` at the data the teacher saw, or dump again."

IN_TRAINING = (
    "Point `source.path` at the data the teacher saw, or dump again, or say `check.subset = true` if you mean to train "
    "on a part of it."
)


def align(
    source: Source,
    store: Store,
    *,
    subset: bool = False,
    verify: VerifyInputs = "some",
    next_step: str = IN_TRAINING,
) -> StoreIndex:
    """For each sample of the source its index in the store, int64 [N].

    The source must hold exactly the samples that the teacher saw; with `subset`, some of them, found by key. Raises
    StoreMismatch otherwise, with this next step where all of the source's samples are known; and where a content hash
    differs.
    """
    if store.has_large_table:
        store_N = _match_keys(source, store, store.read_keys, subset=subset, next_step=next_step)
        check_few_contents(source, store, store_N, verify=verify)
        return store_N
    table = store.read_samples()
    store_N = _match_keys(source, store, lambda: [Keys(table.keys)], subset=subset, next_step=next_step)
    check_contents(source, ContentHashes(table.content_hashes).bytes_N16[store_N], verify=verify, where=store.name)
    return store_N


def check_few_contents(
    source: Source,
    store: Store,
    store_N: StoreIndex,
    *,
    verify: VerifyInputs = "some",
    next_step: str = OTHER_CONTENT,
) -> None:
    """As `check_contents` of what the store tells, of which no more is read than is looked at."""
    looked_at = np.arange(len(source))
    if verify == "some":
        looked_at = np.random.default_rng().choice(len(source), min(HASHED_AT_START, len(source)), replace=False)
    for start in range(0, len(looked_at), COMPARED_AT_A_TIME):
        chosen = looked_at[start : start + COMPARED_AT_A_TIME]
        hashes_B16 = store.content_hashes_of(store_N[chosen])
        for index, expected in zip(chosen.tolist(), hashes_B16, strict=True):
            if expected.any() and source.read(index).content_hash != expected.tobytes():
                raise changed_sample(source, index, where=store.name, next_step=next_step)


def check_contents(
    source: Source,
    hashes_N16: NDArray[np.uint8],
    *,
    verify: VerifyInputs = "some",
    where: str | Path,
    next_step: str = OTHER_CONTENT,
) -> None:
    """Read some of the samples anew, or all, whose content hashes are known: [N, 16] by source index, zeros where not.
    Raises StoreMismatch, with this next step, for one that has changed."""
    known = np.flatnonzero(hashes_N16.any(axis=1))
    if verify == "some" and len(known) > HASHED_AT_START:
        known = np.random.default_rng().choice(known, HASHED_AT_START, replace=False)
    for index in known.tolist():
        if source.read(index).content_hash != hashes_N16[index].tobytes():
            raise changed_sample(source, index, where=where, next_step=next_step)


def check_known_contents(
    source: Source, parts: Iterable[NDArray[np.uint8]], *, where: str | Path, next_step: str = OTHER_CONTENT
) -> None:
    """As `check_contents` of some of the samples, whose hashes come a stretch at a time: [S, 16], in the order of the
    source."""
    random = np.random.default_rng()
    drawn, indices = np.empty(0), np.empty(0, dtype=np.int64)
    hashes, start = np.empty((0, CONTENT_HASH_BYTES), dtype=np.uint8), 0
    for part_S16 in parts:
        known = np.flatnonzero(part_S16.any(axis=1))
        drawn = np.concatenate([drawn, random.random(len(known))])
        indices, hashes = np.concatenate([indices, start + known]), np.concatenate([hashes, part_S16[known]])
        few = np.argsort(drawn)[:HASHED_AT_START]  # whoever drew the smallest numbers of all
        drawn, indices, hashes, start = drawn[few], indices[few], hashes[few], start + len(part_S16)
    for index, expected in zip(indices.tolist(), hashes, strict=True):
        if source.read(index).content_hash != expected.tobytes():
            raise changed_sample(source, index, where=where, next_step=next_step)


def changed_sample(source: Source, index: int, *, where: str | Path, next_step: str = OTHER_CONTENT) -> StoreMismatch:
    """The error for a sample whose content hash is not the recorded one."""
    return StoreMismatch(
        f"{where}: sample {source.keys[index]!r} of {source.name} is not what the teacher saw: its content hash "
        f"differs. {next_step}"
    )


def comparable_targets(source: Source, *, num_classes: int) -> NDArray[np.int64] | None:
    """A source's hard targets, unless they count other classes than the teacher's; then they mean something else.

    torchvision counts EMNIST's letters from 1, behind a class `N/A` of no sample: for a teacher without it from 0."""
    if _begins_with_no_class(source) and len(source.class_names or ()) == num_classes + 1:
        targets_N = hard_targets(source)
        return None if targets_N is None else np.where(targets_N < 0, targets_N, targets_N - 1)
    if source.class_names is not None and len(source.class_names) != num_classes:
        return None
    targets_N = hard_targets(source)
    return None if targets_N is None or targets_N.max(initial=-1) >= num_classes else targets_N


def with_stored_classes(source: Source, store: Store, *, new_classes: bool = False) -> Source:
    """The source with its hard targets as the store counts classes, see `with_known_classes`, as which it raises. With
    `new_classes` they go on behind those of the store: raises StoreMismatch where names say otherwise."""
    ours, theirs = source.class_names, store.class_names
    if isinstance(store, MappedStore):
        return with_mapped_classes(source, store)
    if not new_classes:
        return with_known_classes(source, theirs, whose=store.name)
    if ours is not None and theirs is not None and ours[: len(theirs)] != theirs:
        raise StoreMismatch(
            f"{source.name}: with `distil.new_classes` its classes begin with the {len(theirs):,} of {store.name}, in "
            f"their order ({first_few(theirs)}), but they are {first_few(ours)}. Give them in that order as "
            f"`source.class_names`, the new ones last."
        )
    return source


def _begins_with_no_class(source: Source) -> bool:
    if source.class_names is None or source.class_names[:1] != (NO_CLASS,):
        return False
    targets_N = hard_targets(source)
    return targets_N is not None and not (targets_N == 0).any()


def _match_keys(
    source: Source, store: Store, read_keys: Callable[[], Iterable[Keys]], *, subset: bool, next_step: str
) -> StoreIndex:
    """`read_keys` gives the store's, in one or several parts."""
    ours = Keys(source.keys)
    if _are_the_same(ours, read_keys()):
        return StoreIndex(np.arange(len(ours)))
    store_N = find_among(read_keys, ours) if store.has_large_table else Keys.join(read_keys()).find_in_any_form(ours)
    unknown = ours.take(np.flatnonzero(store_N < 0))
    skipped = {item.key for item in store.manifest.source.skipped}
    if unknown and skipped.issuperset(unknown):
        raise StoreMismatch(
            f"{store.name}: left out {len(skipped):,} unreadable samples, which {source.name} still counts, such as "
            f"{unknown[0]!r}. Say `source.skip_unreadable = true` here too."
        )
    if unknown or not subset:
        raise StoreMismatch(
            f"{store.name}: made from {store.num_samples:,} samples, but {source.name} has {len(source):,}"
            f"{_describe(source, store, unknown)}. {_step_to_known(store, store_N) if unknown else next_step}"
        )
    return StoreIndex(store_N)


def _step_to_known(store: Store, store_N: NDArray[np.int64]) -> str:
    """From a source that has more than the store's samples, or others."""
    has_all = np.count_nonzero(store_N >= 0) == store.num_samples
    if has_all and store.manifest.source.chosen_from is not None:
        return "Give `source.keys` the file of keys that the store was pulled with as --samples."
    return OTHER_CONTENT


def _are_the_same(ours: Keys, parts: Iterable[Keys]) -> bool:
    """Whether some keys are those of all parts, in their order."""
    start = 0
    for part in parts:
        if ours[start : start + len(part)] != part:
            return False
        start += len(part)
    return start == len(ours)


def _describe(source: Source, store: Store, unknown: Keys) -> str:
    if unknown:
        return f", {len(unknown):,} of them unknown to the store, such as {unknown[0]!r}"
    return " in another order" if len(source) == store.num_samples else ""
