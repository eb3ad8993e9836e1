"""A collate function that adds the stored rows of tokens to what a trainer's own makes of a batch.

soft_labels        the rows that are stored of the batch's tokens, one sample behind the other
soft_label_rows    int64 [R], where the model gives each of them: a place among the batch's tokens, [B, L] flattened
labels             the tokens that these rows are distributions over, -100 elsewhere: what has no row isn't learnt
"""

# Shape letters: B samples in a batch, L tokens of the longest one, T tokens of one, R rows, S rows that are stored.

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.loading.collator import SOFT_LABELS
from softlab.loading.dataset_labels import DatasetLabels
from softlab.modalities.tokens.shift import IGNORED, labels_of_rows, tokens_behind
from softlab.store.reader import Store

SAMPLE, IDS, LABELS, ROWS = "sample", "input_ids", "labels", "soft_label_rows"


class TokensCollator:
    """Collates items that hold the `input_ids` of a whole sample and tell its key as `sample`.

    `collate` gets them without their key, and may fill them up on either side, cut their end off, or put them one
    behind the other in one sequence. Where it gives `labels`, tokens that are -100 there are not learnt.
    """

    def __init__(self, labels: DatasetLabels, *, collate: Callable[[list[Any]], Any], sample: str = SAMPLE) -> None:
        """`labels` are those of `softlab.align(store)`. Raises StoreMismatch for a store without rows of tokens."""
        if not is_of_tokens(labels.store):
            raise StoreMismatch(
                f"{labels.store.name}: holds no rows of tokens. Give a store of a causal language model's outputs, or "
                f"take softlab.Collator."
            )
        self.labels, self.collate, self.sample = labels, collate, sample

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> MutableMapping[str, Any]:
        """Raises StoreMismatch for items that tell no key, or one that the store doesn't have, for other tokens than
        the teacher has read, where the store holds these, and for a batch in which they can't be found."""
        keys = [self._key_of(item) for item in items]
        own = [{name: value for name, value in item.items() if name != self.sample} for item in items]
        ids = [torch.as_tensor(item[IDS]) for item in own]
        batch: MutableMapping[str, Any] = self.collate(own)
        starts_B, lengths_B = _find(ids, batch[IDS], where=self.labels.store.name)
        store, store_B = self.labels.store, self.labels.find(keys)
        if store.manifest.tokens_read is not None:
            _check_same(ids, store.read_tokens(store_B), keys, where=store.name)
        stored, numbers_S = store.read(store_B, view=self.labels.views()), store.read_units(store_B)
        assert stored.counts_B is not None, "they are of tokens"
        assert numbers_S is not None, "and have numbers"

        sample_S = torch.arange(len(items)).repeat_interleave(stored.counts_B)
        kept_R = (numbers_S + 1 < lengths_B[sample_S]).nonzero()[:, 0]  # the token behind is there too
        rows_R = starts_B[sample_S[kept_R]] + numbers_S[kept_R]
        if LABELS in batch:
            is_learnt_R = tokens_behind(batch[LABELS], rows_R) != IGNORED
            kept_R, rows_R = kept_R[is_learnt_R], rows_R[is_learnt_R]
        counts_B = torch.bincount(sample_S[kept_R], minlength=len(items))
        batch[SOFT_LABELS] = stored.at_rows(kept_R, counts_B=counts_B)
        batch[ROWS] = rows_R
        batch[LABELS] = labels_of_rows(batch[IDS], rows_R)
        return batch

    def _key_of(self, item: Mapping[str, Any]) -> str:
        key = item.get(self.sample)
        if not isinstance(key, str) or IDS not in item:
            raise StoreMismatch(
                f"TokensCollator: an item tells {key!r} as its {self.sample!r} (it has {', '.join(map(str, item))}), "
                f"expected the key that the store has, a text, and `{IDS}`. Add them to each item of the data set, and "
                f"say `remove_unused_columns=False` where a trainer drops them."
            )
        return key


def is_of_tokens(store: Store) -> bool:
    """Whether its rows are of the tokens of causal language models."""
    of_tokens = any(record.modality == "tokens" for record in store.manifest.inputs)
    return of_tokens and store.has_labels and store.labels.units


def _check_same(ids: Sequence[Tensor], read: Sequence[NDArray[np.int64]], keys: Sequence[str], *, where: str) -> None:
    """As far as both go: either may have lost its end."""
    for ours_T, theirs_T, key in zip(ids, read, keys, strict=True):
        common = min(len(ours_T), len(theirs_T))
        ours, theirs = ours_T[:common].tolist(), theirs_T[:common].tolist()
        if ours != theirs:
            place = next(place for place, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
            raise StoreMismatch(
                f"{where}: the teacher has read other tokens of sample {key!r}: number {place} is {theirs[place]} "
                f"there, and {ours[place]} here. Give the items the teacher's tokens, as store.read_tokens tells them."
            )


def _find(ids: Sequence[Tensor], ids_BL: Tensor, *, where: str) -> tuple[Tensor, Tensor]:
    """Where each item begins in the batch, flattened, and how many of its tokens are there."""
    num_samples, length = ids_BL.shape
    lengths = [len(each) if num_samples < len(ids) else min(len(each), length) for each in ids]
    ends = list(accumulate(lengths))
    arrangements = {
        "filled up on the right": [place * length for place in range(len(ids))],
        "filled up on the left": [(place + 1) * length - own for place, own in enumerate(lengths)],
        "in one sequence": [end - own for end, own in zip(ends, lengths, strict=True)],
    }
    flat = ids_BL.flatten()
    for starts in arrangements.values():
        places = list(zip(ids, starts, lengths, strict=True))
        if all(flat[start : start + own].equal(each[:own].to(flat)) for each, start, own in places):
            return torch.tensor(starts), torch.tensor(lengths)
    raise StoreMismatch(
        f"{where}: the {len(ids)} items of a batch have {sum(map(len, ids)):,} tokens, and the batch "
        f"{list(ids_BL.shape)} doesn't hold them {', nor '.join(arrangements)}, so that no row can be found. Let "
        f"`collate` leave tokens and their order as they are, and cut off ends alone."
    )
