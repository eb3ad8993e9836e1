"""Which tokens have a row, and what it is of: the row of token t is the distribution over token t + 1.

Nothing else in softlab knows that. A sequence's last token has no row, nor has one whose next token isn't learnt, as
within a prompt, or was cut off.

    tokens      <s>  What  is   it   ?   A   cat  </s>
    number t    0    1     2    3    4   5   6    7
    is learnt                            *   *    *         the prompt isn't
    has a row                        *   *   *              the rows of 4, 5 and 6
    target                           A   cat </s>
"""

# Shape letters: B samples in a batch, L tokens of the longest one of them, R rows of all samples, T tokens of one.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.modalities.inputs import Units


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadTokens:
    """What a model reads of one sample."""

    ids_T: NDArray[np.int64]
    numbers_T: NDArray[np.int64]
    """Which token of the whole sample each is: where some are cut off in the middle, two that aren't neighbours stand
    side by side."""

    is_learnt_T: NDArray[np.bool_]
    total: int
    """Tokens of the whole sample."""

    def __len__(self) -> int:
        return len(self.ids_T)


def token_units(read: Sequence[ReadTokens], *, starts: Sequence[int], num_sequences: int, length: int) -> Units:
    """Of some samples in so many sequences of a length; `starts` is where each begins in these, one behind the
    other."""
    rows = [rows_of(each) for each in read]
    return Units(
        rows_B=torch.tensor([len(each) for each in rows]),
        keys_R=torch.from_numpy(np.concatenate([own + start for own, start in zip(rows, starts, strict=True)])),
        numbers_R=torch.from_numpy(np.concatenate([each.numbers_T[own] for each, own in zip(read, rows, strict=True)])),
        totals_B=torch.tensor([each.total for each in read]),
        targets_R=torch.from_numpy(np.concatenate([each.ids_T[own + 1] for each, own in zip(read, rows, strict=True)])),
        num_sequences=num_sequences,
        length=length,
    )


def rows_of(tokens: ReadTokens) -> NDArray[np.int64]:
    """Which of the tokens that are read have a row, ascending."""
    follows = np.diff(tokens.numbers_T) == 1
    return np.flatnonzero(follows & tokens.is_learnt_T[1:])


IGNORED = -100
"""Of a token that is no hard target, as trainers of Hugging Face's say it."""


def tokens_behind(ids: Tensor, rows_R: Tensor) -> Tensor:
    """int64 [R], the hard target of each row. `rows_R` are places in the ids of a batch, flattened, that aren't the
    last of their sample."""
    return ids.reshape(-1)[rows_R + 1]


def labels_of_rows(ids: Tensor, rows_R: Tensor) -> Tensor:
    """Hard targets beside the tokens of a batch, as trainers of Hugging Face's want them, who shift them themselves:
    each token behind a row, and IGNORED elsewhere."""
    labels = torch.full_like(ids, IGNORED)
    labels.view(-1)[rows_R + 1] = tokens_behind(ids, rows_R)
    return labels
