"""The samples of a store as a data set: what its teacher has read of each, where the store holds that."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.manifest import InputRecord
from softlab.modalities.tokens.inputs import LEARNT_FIELD, STORED_FIELD
from softlab.sources.source import Sample, SkippedSample, source_in_a_line
from softlab.store.reader import Store
from softlab.store.samples import SampleTable


class StoredSource:
    """See `Source`; made by `stored_source`."""

    class_names: tuple[str, ...] | None = None
    skipped: tuple[SkippedSample, ...] = ()

    def __init__(self, store: Store) -> None:
        self.store, self.name = store, f"the samples of {store.name.rstrip('/').rpartition('/')[2]}"

    def __len__(self) -> int:
        return self.store.num_samples

    def __repr__(self) -> str:
        return source_in_a_line(self)

    @property
    def field_names(self) -> tuple[str, ...]:
        return (STORED_FIELD, LEARNT_FIELD) if self._learns_some else (STORED_FIELD,)

    @property
    def as_read(self) -> InputRecord:
        """How the teacher has read the samples; beside its options the `vocabulary`, how many tokens there are."""
        record, read = self.store.manifest.inputs[0], self.store.manifest.tokens_read
        assert read is not None, "the store was asked for tokens"
        return msgspec.structs.replace(record, options={**record.options, "vocabulary": read.vocabulary})

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
        beside = self._learnt(indices, tokens) if self._learns_some else [{} for _ in tokens]
        return [
            Sample(
                index=index,
                key=table.keys[index],
                fields={STORED_FIELD: ids, **own},
                content_hash=table.content_hashes[index],
                place=self.store.name,
            )
            for index, ids, own in zip(indices, tokens, beside, strict=True)
        ]

    @cached_property
    def _learns_some(self) -> bool:
        """Whether the teacher's input has tokens that aren't learnt, such as those of prompts."""
        said = self.store.manifest.inputs[0].options
        return bool(said.get("prompt_field")) or said.get("loss_on") == "completion"

    def _learnt(
        self, indices: Sequence[int], tokens: Sequence[NDArray[np.int64]]
    ) -> list[dict[str, NDArray[np.int64]]]:
        """A token is learnt by the row of the one before it, which the store has or not."""
        units_R, counts_B = self.store.read_units(list(indices)), self.store.counts(list(indices))
        assert units_R is not None, "the teacher answers for each token"
        assert counts_B is not None, "and so it has rows for units"
        found: list[dict[str, NDArray[np.int64]]] = []
        for ids, own_R in zip(tokens, np.split(units_R.numpy(), np.cumsum(counts_B)[:-1]), strict=True):
            learnt = np.zeros(len(ids), dtype=np.int64)
            learnt[own_R + 1] = 1
            found.append({LEARNT_FIELD: learnt})
        return found

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
