"""A source beside the stores that were made from it: which row belongs to which sample."""

# Shape letters: N samples of the source, B rows in a batch.

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from softlab.loading.alignment import VerifyInputs, align, comparable_targets
from softlab.loading.view_check import check_views, store_replay
from softlab.manifest import ViewsRecord
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.views.finishing import Finishing
from softlab.views.replay import Replay

AS_THEY_ARE = Replay(ViewsRecord(num_views=1), num_samples=1)
"""Nothing random: every view is the image itself."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Aligned:
    """A source, its views finished for a model, and where there is one the store that was made from it."""

    source: Source
    finishing: Finishing
    replay: Replay = AS_THEY_ARE
    """The random part of a view. It counts samples as the store does, without a store as the source does."""

    digest_every: int = 0
    """Of one view in so many the digest of its pixels is taken; of none for 0."""
    store: Store | None = None
    store_numbers_N: NDArray[np.int64] | None = None
    """For each sample of the source its sample in the store, from `align`."""

    others: tuple[Store, ...] = ()
    """Of further teachers, over the same samples and views; see `check_same_rows`."""

    new_classes: bool = False
    """Whether hard targets go on counting behind the store's classes."""

    features: Mapping[str, Store] = field(default_factory=dict)
    """Features to be read, each from the store that holds it."""

    @property
    def stores(self) -> tuple[Store, ...]:
        """Of all teachers."""
        return () if self.store is None else (self.store, *self.others)

    @property
    def targets_N(self) -> NDArray[np.int64] | None:
        """The source's hard targets, unless they count other classes than the store's labels and not new ones too."""
        if self.store is None or self.new_classes:
            return self.source.targets_N
        return comparable_targets(self.source, num_classes=self.store.num_classes)

    def in_store(self, samples_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """The store's numbers of some samples; their own where there is no store."""
        return samples_B if self.store_numbers_N is None else self.store_numbers_N[samples_B]

    @property
    def num_stored_views(self) -> int:
        return 1 if self.store is None else self.store.num_views


def as_the_teacher_saw(
    source: Source,
    store: Store,
    finishing: Finishing,
    *,
    subset: bool,
    verify: VerifyInputs,
    check_pixels: bool = True,
) -> Aligned:
    """The views of a store, each with its row. Raises StoreMismatch as `align` and `check_views`."""
    numbers_N = align(source, store, subset=subset, verify=verify)
    replay = store_replay(store, numbers_N)
    if check_pixels:
        check_views(source, store, numbers_N, replay, verify=verify)
    return Aligned(source=source, finishing=finishing, replay=replay, store=store, store_numbers_N=numbers_N)
