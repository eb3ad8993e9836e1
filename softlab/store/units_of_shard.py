"""How many rows the samples of a shard have in an output with units: no more than fit, and as many in every view."""

# Shape letters: S samples of a shard.

import numpy as np
from numpy.typing import NDArray

from softlab.errors import TeacherError
from softlab.manifest import StorePlan
from softlab.remote.remote import Place
from softlab.shards import Shard


def check_room(rows_S: NDArray[np.int64], plan: StorePlan, shard: Shard, *, where: Place) -> None:
    """Raises TeacherError."""
    room, num_units = plan.storage.shard_units or 0, int(rows_S.sum())
    if num_units > room:
        raise TeacherError(
            f"{where}: samples {shard.start} to {shard.stop - 1} have {num_units:,} rows, the longest of them "
            f"{int(rows_S.max()):,}, but a shard has room for {room:,}. Dump with fewer samples a shard "
            f"(`dump.shard_rows`), or shorten the samples."
        )


def check_same_rows(
    rows_S: NDArray[np.int64], expected_S: NDArray[np.int64], *, start: int, view: int, where: Place
) -> None:
    """Raises TeacherError unless a view has the rows that another one has; `start` is the first sample."""
    if not np.array_equal(expected_S, rows_S):
        place = int((expected_S != rows_S).argmax())
        raise TeacherError(
            f"{where}: sample {start + place} has {rows_S[place]} rows in view {view}, but {expected_S[place]} in "
            f"another one. Use views that leave every unit where it is."
        )
