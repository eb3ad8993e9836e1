"""The door for a training loop of the user's own: a store's labels for the samples of any data set, found by key.

    labels = softlab.align(store, keys, contents=read_bytes)
    loader = DataLoader(softlab.with_index(dataset), shuffle=True, collate_fn=softlab.Collator(labels))

`dataset_labels` is what `align` gives, `with_index` and `collator` take it through a loader, and `view_dataset` shows
the very views that the teacher saw.
"""

# Shape letters: N samples of the data set.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, StoreMismatch, first_few
from softlab.identity import ContentHashes, fields_hash
from softlab.indices import StoreIndex
from softlab.keys import Keys
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.label_check import stored_label_note, warn_of_labels
from softlab.loading.sample_check import check_contents, check_few_contents, with_stored_classes
from softlab.modalities.views import describe_views
from softlab.sources.source import Raw, Sample, SkippedSample, Source
from softlab.store.key_join import find_among
from softlab.store.reader import Store

Contents = Callable[[int], bytes | Mapping[str, Raw]]
"""What a source would read of sample i: the bytes of its only field, or all of its fields by name."""

VerifyContents = Literal["some", "all", "keys"]
ViewsMismatch = Literal["refuse", "allow"]

SHOWN_KEYS = 3
"""Of those that are missing."""

OTHER_DATA = "Give the very samples that the teacher saw, or dump again."
OTHER_CONTENT = "Let contents= give the very bytes that the teacher's source read, or dump again."


def align(
    store: Store,
    keys: Sequence[str] | Source | None = None,
    *,
    contents: Contents | None = None,
    verify: VerifyContents = "some",
    subset: bool = False,
    views_mismatch: ViewsMismatch = "refuse",
) -> DatasetLabels:
    """The labels of a data set whose sample i has the key `keys[i]`, as the teacher's source has it, in any order.

    A source of softlab may stand in place of the keys, and gives contents too; without any keys the items have to tell
    theirs (`softlab.with_index(dataset, key=...)`). `contents` is compared with the stored content hashes: of some
    samples, chosen at random, or of all; or of none (`keys`), which has to be said where keys are mere row numbers.
    `subset` allows fewer samples than the store has. A store of augmented views is refused, unless `views_mismatch` is
    `allow`: its labels are of views that only a `softlab.ViewDataset` shows.

    Raises StoreMismatch for keys that are unknown, missing or repeated, for changed contents and unknown class names.
    Warns with OddLabels where the hard targets of a source contradict the teacher, count other classes, or are aligned
    by class name.
    """
    if views_mismatch == "refuse":
        _check_views(store)
    if keys is None:
        return DatasetLabels(store, None)
    given = _as_source(keys, contents)
    if given is not keys and contents is None:
        _check_keys_say_enough(store, verify)
        verify = "keys"
    source = with_stored_classes(given, store)
    store_N = find_samples(store, source, verify=verify, subset=subset)
    if source.targets:
        warn_of_labels(stored_label_note(source, store, store_N))
    return DatasetLabels(store, store_N)


def find_samples(store: Store, source: Source, *, verify: VerifyContents, subset: bool) -> StoreIndex:
    """For each sample of a source its index in the store, int64 [N], found by key, in any order. Raises as `align`."""
    ours, table = Keys(source.keys), None if store.has_large_table else store.read_samples()
    find = partial(find_among, store.read_keys) if table is None else Keys(table.keys).find_in_any_form
    store_N = StoreIndex(find(ours))
    _check_known(store, ours.take(np.flatnonzero(store_N < 0)), num_keys=len(ours))
    _check_once(store, ours, store_N)
    if not subset:
        _check_complete(store, store_N)
    next_step = OTHER_CONTENT if isinstance(source, _OwnSamples) else OTHER_DATA
    if verify != "keys" and table is None:
        check_few_contents(source, store, store_N, verify=verify, next_step=next_step)
    elif verify != "keys" and table is not None:
        hashes_N16 = ContentHashes(table.content_hashes).bytes_N16[store_N]
        check_contents(source, hashes_N16, verify=verify, where=store.name, next_step=next_step)
    return store_N


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _OwnSamples:
    """A data set of the user's own as a source: its keys, and what `contents` gives."""

    keys: Sequence[str]
    contents: Contents | None
    name: str = "your data set"
    targets: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    skipped: tuple[SkippedSample, ...] = ()
    field_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Sample:
        """Raises InvalidOption for contents that are neither bytes nor fields."""
        assert self.contents is not None, "only read where there is something to read"
        found = self.contents(index)
        fields = found if isinstance(found, Mapping) else {"": found}
        if not isinstance(found, bytes | Mapping):
            raise InvalidOption(
                f"contents={getattr(self.contents, '__name__', self.contents)}: gave a {type(found).__name__} for "
                f"sample {index}. Return bytes, or the fields of a sample by name."
            )
        key = self.keys[index]
        return Sample(index=index, key=key, fields=fields, content_hash=fields_hash(fields), place=self.name)


def _as_source(keys: Sequence[str] | Source, contents: Contents | None) -> Source:
    """Raises InvalidOption for keys that are no texts."""
    if hasattr(keys, "read"):
        if contents is not None:
            raise InvalidOption("align: a source reads its own contents. Leave contents= out.")
        return cast(Source, keys)
    if isinstance(keys, str) or not all(isinstance(key, str) for key in keys):
        wrong = keys if isinstance(keys, str) else next(key for key in keys if not isinstance(key, str))
        raise InvalidOption(
            f"align: keys are a list of texts, one a sample, but here is {wrong!r}, of type {type(wrong).__name__}. "
            f"Give the keys that the teacher's source has, such as paths below its folder."
        )
    return _OwnSamples(keys=Keys(keys), contents=contents)


def _check_views(store: Store) -> None:
    views = store.manifest.views
    if views.transforms or views.mixing is not None:
        raise StoreMismatch(
            f"{store.name}: its labels are of augmented views ({describe_views(views)}), which only "
            f"softlab.ViewDataset(source, store) shows. Train on that, or say views_mismatch='allow' if you mean to "
            f"teach these labels with views of your own."
        )


def _check_keys_say_enough(store: Store, verify: VerifyContents) -> None:
    """Without contents."""
    if verify == "all":
        raise InvalidOption("align: verify='all' compares contents. Give contents=, or leave verify out.")
    if verify == "some" and all(key.isdecimal() for part in store.read_keys() for key in part):
        raise StoreMismatch(
            f"{store.name}: its keys are row numbers, which the same samples in another order would have too. Give "
            f"contents=, so that some are compared, or a softlab source in place of the keys; verify='keys' does "
            f"without."
        )


def _check_known(store: Store, unknown: Keys, *, num_keys: int) -> None:
    if not unknown:
        return
    left_out = {item.key for item in store.manifest.source.skipped}
    if left_out.issuperset(unknown):
        raise StoreMismatch(
            f"{store.name}: the teacher left out {len(left_out):,} unreadable samples, such as {first_few(unknown)}. "
            f"Leave them out of the data set too."
        )
    theirs = store.read_samples_at(range(min(store.num_samples, 2))).keys
    raise StoreMismatch(
        f"{store.name}: {len(unknown):,} of your {num_keys:,} keys are of no sample: {first_few(unknown)}. Its own are "
        f"such as {first_few(theirs)}. {OTHER_DATA}"
    )


def _check_once(store: Store, ours: Keys, store_N: NDArray[np.int64]) -> None:
    found, counts = np.unique(store_N, return_counts=True)
    repeated = found[counts > 1]
    if len(repeated):
        places = np.flatnonzero(store_N == repeated[0])
        raise StoreMismatch(
            f"{store.name}: {len(repeated):,} of your keys are there more than once, such as "
            f"{ours[int(places[0])]!r} at {first_few(places.tolist())}. Give each sample its own key."
        )


def _check_complete(store: Store, store_N: StoreIndex) -> None:
    """Of samples that are there once."""
    num_missing = store.num_samples - len(store_N)
    if num_missing:
        missing = np.setdiff1d(np.arange(min(len(store_N) + SHOWN_KEYS, store.num_samples)), store_N)
        keys = store.read_samples_at(missing[:SHOWN_KEYS]).keys
        more = f" and {num_missing - SHOWN_KEYS:,} more" if num_missing > SHOWN_KEYS else ""
        raise StoreMismatch(
            f"{store.name}: has {store.num_samples:,} samples, and {num_missing:,} of them are not among your "
            f"{len(store_N):,} keys: {first_few(keys)}{more}. Say subset=True if you mean to train on a part of it."
        )
