"""Which rows of a source are near each other by a model's vectors, for metrics that look at neighbours."""

# Shape letters: N rows kept, Q of them asked about at a time, D numbers of a vector, K neighbours of each row.

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

MOST_ROWS = 10_000
"""Of more rows every second one, every fourth one, .. is kept: neighbours take rows squared of arithmetic."""

MOST_NUMBERS = 1 << 27
"""Of all that is kept, 512 MiB: of maps that is fewer rows."""

CHUNK_NUMBERS = 1 << 24
"""Similarities in memory at a time: 64 MiB."""


class KeptRows:
    """Vectors of length 1, and what belongs to each, of at most `MOST_ROWS` rows that are spread evenly over a source,
    and fewer where they are long. Which ones they are doesn't depend on the size of batches."""

    def __init__(self, *, most: int = MOST_ROWS) -> None:
        self._most, self._stride = most, 1
        self._kept: list[tuple[Tensor, ...]] = []

    def add(self, source_B: Tensor, *tensors: Tensor) -> None:
        """More rows: where they stand in the source, and tensors of B rows each, always as many."""
        self._kept.append((source_B, *tensors))
        self._kept[-1] = self._chosen(self._kept[-1])
        per_row = sum(tensor[:1].numel() for tensor in tensors)
        most = min(self._most, max(MOST_NUMBERS // max(per_row, 1), 1))
        while sum(len(rows[0]) for rows in self._kept) > most:
            self._stride *= 2
            self._kept = [self._chosen(rows) for rows in self._kept]

    def value(self) -> tuple[Tensor, ...]:
        """The tensors of all that is kept, without where the rows stand."""
        columns = zip(*self._kept, strict=True)
        return tuple(torch.cat(column) for column in columns)[1:]

    def _chosen(self, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._stride == 1:
            return rows
        is_kept_B = rows[0] % self._stride == 0
        return tuple(each[is_kept_B] for each in rows)


def unit_rows(values: Tensor) -> Tensor:
    """float32 [B, D] of length 1, maps as one long vector."""
    return functional.normalize(values.float().flatten(start_dim=1), dim=1)


def nearest(unit_ND: Tensor, *, k: int) -> Iterator[Tensor]:
    """The K nearest other rows of each row by cosine, the nearest first, int64 [Q, K]: for all rows, in order, some at
    a time."""
    size = max(CHUNK_NUMBERS // max(len(unit_ND), 1), 1)
    for begin in range(0, len(unit_ND), size):
        part_QD = unit_ND[begin : begin + size]
        similarities_QN = part_QD @ unit_ND.T
        own_Q = torch.arange(len(part_QD), device=part_QD.device)
        similarities_QN[own_Q, own_Q + begin] = -torch.inf
        yield similarities_QN.topk(k, dim=1).indices
