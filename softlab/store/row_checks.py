"""Whether the rows that a reader is asked for are there."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlab.errors import InvalidOption
from softlab.indices import StoreIndex


def check_samples(samples: ArrayLike, *, num_samples: int, where: object) -> StoreIndex:
    """Store indices as int64 [B]. Raises InvalidOption for one that isn't there, or that is no number."""
    store_B = np.asarray(samples)
    if store_B.dtype != np.int64 or store_B.ndim != 1:  # else it is asked as most are, where microseconds count
        if store_B.size and store_B.dtype.kind not in "iu":  # a mask, cast to numbers, would read samples 0 and 1
            raise InvalidOption(f"{where}: {store_B.dtype} values are no sample indices. Ask by sample indices.")
        store_B = store_B.astype(np.int64, copy=False).reshape(-1)
    if not are_within(store_B, num_samples):
        outside = store_B.min() if store_B.min() < 0 else store_B.max()
        raise InvalidOption(f"{where}: has samples 0 to {num_samples - 1}, not {outside}. Ask for one of those.")
    return StoreIndex(store_B)


def are_within(index_B: NDArray[np.int64], num_samples: int) -> bool:
    """Whether all are from 0 to below so many. One pass for both ends, as a negative number is a huge one without its
    sign; argmax takes a sixth of max's time."""
    return not len(index_B) or 0 <= index_B.item(index_B.view(np.uint64).argmax()) < num_samples


def check_views(view: ArrayLike, *, num_views: int, where: object) -> NDArray[np.int64]:
    """View numbers as int64, [] or [B]. Raises InvalidOption as `check_samples`."""
    given = np.asarray(view)
    if given.size and given.dtype.kind not in "iu":
        raise InvalidOption(f"{where}: {given.dtype} values don't number views. Ask by view numbers.")
    views = given.astype(np.int64)
    if views.size and not 0 <= views.min() <= views.max() < num_views:
        outside = views.min() if views.min() < 0 else views.max()
        raise InvalidOption(
            f"{where}: has views 0 to {num_views - 1}, not {outside}. Ask for one of those, or add views with `softlab "
            f"dump-teacher --views +N`."
        )
    return views


def by_view(
    view: ArrayLike, store_B: StoreIndex, *, num_views: int, where: object
) -> Iterator[tuple[int, NDArray[np.int64] | slice]]:
    """Each view that is asked for, and which of B samples in it; for one view, or one each. Raises as `check_views`."""
    views_B = check_views(view, num_views=num_views, where=where)
    if views_B.shape not in ((), store_B.shape):
        raise InvalidOption(f"{where}: {views_B.size} views for {store_B.size} samples. Ask for one view, or one each.")
    if views_B.ndim == 0:
        yield int(views_B), slice(None)
        return
    for each in np.unique(views_B).tolist():
        yield each, np.flatnonzero(views_B == each)
