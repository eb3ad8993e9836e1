"""The samples of a store as a data set: what its teacher has read of each, where the store holds that."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from softlab.modalities.tokens.inputs import STORED_FIELD
from softlab.sources.source import Sample, SkippedSample, source_in_a_line
from softlab.store.reader import Store
from softlab.store.samples import SampleTable


class StoredSource:
    """See `Source`; made by `stored_source`."""

    class_names: tuple[str, ...] | None = None
    skipped: tuple[SkippedSample, ...] = ()
    field_names: tuple[str, ...] = (STORED_FIELD,)

    def __init__(self, store: Store) -> None:
        self.store, self.name = store, f"the samples of {store.name.rstrip('/').rpartition('/')[2]}"

    def __len__(self) -> int:
        return self.store.num_samples

    def __repr__(self) -> str:
        return source_in_a_line(self)

    @property
    def keys(self) -> Sequence[str]:
        return self._table.keys

    @property
    def targets(self) -> Mapping[str, NDArray[np.int64]]:
        return {}

    def read(self, index: int) -> Sample:
        return self.read_many([index])[0]

    def read_many(self, indices: Sequence[int]) -> list[Sample]:
        """Content hashes are those of the samples as the teacher found them: the store vouches for both."""
        table, tokens = self._table, self.store.read_tokens(list(indices))
        return [
            Sample(
                index=index,
                key=table.keys[index],
                fields={STORED_FIELD: ids},
                content_hash=table.content_hashes[index],
                place=self.store.name,
            )
            for index, ids in zip(indices, tokens, strict=True)
        ]

    @cached_property
    def _table(self) -> SampleTable:
        return self.store.read_samples()

    def __getstate__(self) -> dict[str, object]:
        return {"store": self.store}

    def __setstate__(self, state: dict[str, Store]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def stored_source(store: Store) -> StoredSource:
    """The samples of a store, so that students train without the data set that it was made from.

        store = softlab.open_store("runs/novels.zarr")
        results = softlab.train_students(students, softlab.stored_source(store), [store])

    Raises StoreMismatch for a store that doesn't hold what its teacher has read, as those of language models do.
    """
    store.read_tokens([])
    return StoredSource(store)
