"""Three ways to count samples, as types of their own, so that a type checker refuses one where another belongs.

    SourceIndex   where a sample stands in the source that is open: 0..N-1
    StoreIndex    where it stands in a store. It differs where the source holds only some of the store's samples.
    RecipeIndex   where it stood in the source when the teacher saw it: its views are drawn by this index. It differs
                  where a store was pulled with only some of its samples.

For example: a store was made from 1,000 samples and pulled with samples 500 and 700 alone, and the source that is open
holds only sample 700. That sample has the source index 0, the store index 1 and the recipe index 700.
"""

from typing import NewType

import numpy as np
from numpy.typing import NDArray

SourceIndex = NewType("SourceIndex", NDArray[np.int64])
StoreIndex = NewType("StoreIndex", NDArray[np.int64])
RecipeIndex = NewType("RecipeIndex", NDArray[np.int64])
