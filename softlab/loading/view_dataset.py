"""The views of a store as a data set of torch: for training loops of a user's own that train on augmented samples."""

# Shape letters: B samples in a batch.

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from softlab.errors import InvalidOption
from softlab.indices import SourceIndex
from softlab.loading.aligned import with_views
from softlab.loading.batch import Batch
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.decoded import Decoded
from softlab.loading.label_check import stored_label_note, warn_of_labels
from softlab.loading.loader import Batches
from softlab.loading.order import RowIndices, ViewOrder
from softlab.loading.own_loop import OTHER_DATA, find_samples
from softlab.loading.sample_check import VerifyInputs, with_stored_classes
from softlab.loading.with_index import INDEX, sample_index
from softlab.modalities.inputs import Inputs
from softlab.modalities.modality import InputOptions, default_input
from softlab.sources.source import Source
from softlab.store.reader import Store

OTHER_VIEWS = "Install those versions, or dump again."


class ViewDataset(Dataset[dict[str, Any]]):
    """Item i is sample i of a source in the very view that the teacher saw and this epoch shows: a dict of

    x        what a model is called with; named inputs are a dict
    index    i, and of which data set and view, for `softlab.Collator`
    view     which view
    target   its hard target as the store counts classes, -1 where unknown; absent where the source has none
    partner_target, weight    of mixed views (MixUp, CutMix) the partner's target, and the view's own share

    `labels` are its stored labels: what a Collator is given, and whose `set_epoch` chooses the view.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        *,
        input: InputOptions | None = None,
        order: ViewOrder = "cycle",
        seed: int = 0,
        verify: VerifyInputs = "some",
        subset: bool = False,
    ) -> None:
        """`order` and `seed` choose views as those of `softlab.TrainOptions` do. A sample's content hash is compared
        when it is first read, and of some views, or of all with `verify`, the pixels before that. Raises StoreMismatch
        as `softlab.align`, and for views that can't be replayed from this source or with these libraries.
        Warns with OddLabels where hard targets are of other classes than the teacher's: items then have no `target`."""
        source = with_stored_classes(source, store)
        store_N = find_samples(store, source, verify=verify, subset=subset)
        self.labels = DatasetLabels(store, store_N, view_order=order, seed=seed)
        aligned = with_views(
            source, store, store_N, (input or default_input(),), verify=verify, next_step_of_views=OTHER_VIEWS
        )
        if aligned.labels == "other":
            warn_of_labels(stored_label_note(source, store, store_N))
        self._batches = Batches(replace(aligned, other_content=OTHER_DATA), Decoded(0))

    def __len__(self) -> int:
        return len(self._batches.aligned.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Raises UnreadableSample for one that can't be decoded, StoreMismatch for one that has changed."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """torch's loaders ask for the samples of a batch at once."""
        source_B = SourceIndex(np.arange(len(self))[list(indices)])
        views_B = np.full(len(source_B), self.labels.views(source_B))
        return _items_of(self._batches.make(RowIndices(source_B, views_B)), num_samples=len(self))


def _items_of(batch: Batch, *, num_samples: int) -> list[dict[str, Any]]:
    (collated,) = batch.inputs
    if collated.units is not None:
        raise InvalidOption(
            "ViewDataset: this modality counts the rows of a batch as a whole. Read its labels in your own loop, with "
            "softlab.align(store, source).read(indices)."
        )
    items = []
    for place, (index, view) in enumerate(zip(batch.source_B.tolist(), batch.views_B.tolist(), strict=True)):
        item = {"x": _input_of(collated.inputs, place), "view": view}
        item[INDEX] = sample_index(index, num_samples=num_samples, view=view)
        if batch.targets_B is not None and not batch.answers:
            item["target"] = int(batch.targets_B[place])
        if batch.mixed is not None:
            item["partner_target"] = int(batch.mixed.targets_B[place])
            item["weight"] = float(batch.mixed.weights_B[place])
        items.append(item)
    return items


def _input_of(inputs: Inputs, place: int) -> Any:
    """Of one sample; a tuple where a model takes several."""
    named = {name: tensor[place] for name, tensor in inputs.named.items()}
    taken = (*(tensor[place] for tensor in inputs.positional), *([named] if named else []))
    return taken[0] if len(taken) == 1 else taken
