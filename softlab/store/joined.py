"""Several outputs of a store that students learn together: each is a row of its sample, as units are.

    stored     start [N, K], end [N, K]         both over the words of a text
    read       [2 N, K]: start of sample 0, end of sample 0, start of sample 1, ..

A loss is a mean over rows, and so the mean of the outputs' losses; losses, mixtures of several teachers and metrics
need not know of it.
"""

# Shape letters: B samples asked for, S outputs, R = B * S rows.

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.origin import Origin
from softlab.manifest import ClassesRecord, Statistics, add_up
from softlab.store.mapped import MappedStore
from softlab.store.reader import Store
from softlab.store.row_checks import check_samples
from softlab.store.rows import Rows
from softlab.store.unit_rows import UnitRows

if TYPE_CHECKING:
    from torch import Tensor

    from softlab.labels.soft_labels import SoftLabels


class JoinedStore(Store):
    """A store whose soft labels are those of several of its outputs, over the same classes."""

    def __init__(self, whole: Store, outputs: Sequence[str]) -> None:
        """Raises InvalidOption for an output that it doesn't hold as classes, StoreMismatch for outputs that can't be
        learnt together."""
        super().__init__(**whole.__getstate__())  # type: ignore[arg-type]
        self.whole, self.outputs = whole, tuple(outputs)
        self.parts = [whole.with_labels(output) for output in outputs]
        self._groups = whole._groups  # what is stored has the units of the whole
        for part in self.parts[1:]:
            _check_same_kind(part.labels, self.parts[0].labels, where=self.name)

    @property
    def labels(self) -> ClassesRecord:
        return msgspec.structs.replace(self.parts[0].labels, name="-".join(self.outputs), units=True)

    @property
    def statistics(self) -> Statistics:
        return add_up([part.statistics for part in self.parts])

    @property
    def origin(self) -> Origin:
        """That of the first output, with the logits and the mass of all."""
        statistics = self.statistics
        return replace(
            self.parts[0].origin,
            captured_mass=statistics.mean_captured_mass,
            num_logits=statistics.rows * self.k,
            clipped_logits=statistics.clipped_logits,
        )

    @property
    def units(self) -> UnitRows:
        if self._units is None:
            self._units = UnitRows(np.full(self.num_samples, len(self.parts), dtype=np.int64))
        return self._units

    def read_units(self, samples: ArrayLike) -> "Tensor":
        """Which output each row is of."""
        import torch  # as the store itself does

        return torch.arange(len(self.parts)).repeat(len(check_samples(samples, num_samples=len(self), where=self.name)))

    def fits_cache(self, features: Iterable[str] = ()) -> bool:
        groups = [part._group_named(None) for part in self.parts] + [self._group_named(name) for name in features]
        return sum(map(self._groups.bytes_when_decoded, groups)) <= self._cache.max_bytes

    def read_packed(self, samples: ArrayLike, *, view: ArrayLike = 0, feature: str | None = None) -> Rows:
        """Rows of labels [R, row bytes]: of each sample one an output."""
        if feature is not None:
            return super().read_packed(samples, view=view, feature=feature)
        rows_SBX = [part.read_packed(samples, view=view) for part in self.parts]
        return np.stack(rows_SBX, axis=1).reshape(-1, rows_SBX[0].shape[1])

    def prefetch(self, samples: ArrayLike, *, view: ArrayLike = 0, feature: str | None = None) -> None:
        if feature is not None:
            super().prefetch(samples, view=view, feature=feature)
            return
        for part in self.parts:
            part.prefetch(samples, view=view)

    def unpack(self, rows: "Tensor", *, counts_B: NDArray[np.int64] | None = None) -> "SoftLabels":
        """Each output with its own coding, and then in turn."""
        from softlab.labels.joined_labels import in_turn  # as the store itself imports torch

        count = len(self.parts)
        parts = [part.unpack(rows[place::count]) for place, part in enumerate(self.parts)]
        return in_turn(parts, origin=self.origin)

    def __getstate__(self) -> dict[str, object]:
        return {"whole": self.whole, "outputs": self.outputs}


def join_outputs(store: Store, outputs: Sequence[str]) -> Store:
    """The store with the soft labels of these outputs; as it is for none, or where it holds no soft labels. Raises as
    `JoinedStore`, and InvalidOption where its classes are mapped."""
    if not outputs or not store.has_labels or isinstance(store, JoinedStore):
        return store
    if isinstance(store, MappedStore):
        raise InvalidOption(f"{store.name}: {' and '.join(outputs)} have no classes to map. Leave `classes` out.")
    return JoinedStore(store, outputs)


def _check_same_kind(ours: ClassesRecord, theirs: ClassesRecord, *, where: str) -> None:
    def kind(record: ClassesRecord) -> list[object]:
        selection = record.selection
        told = [record.label_space.num_classes, selection, record.head, record.coding.logits]
        return [*told, record.units, record.valid, record.masked]

    if ours.units or kind(ours) != kind(theirs):
        raise StoreMismatch(
            f"{where}: its outputs {theirs.name} ({theirs.in_a_line}) and {ours.name} ({ours.in_a_line}) can't be "
            f"learnt together, which takes one row a sample, and the same classes, K and coding. Dump both in one run, "
            f"with `dump.k`."
        )
