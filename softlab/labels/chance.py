"""Do a teacher and hard targets agree any more often than by chance? Numbers without names may count other classes."""

# Shape letters: N rows.

from typing import Literal

import numpy as np
from numpy.typing import NDArray

LabelClasses = Literal["auto", "same", "other"]
"""Of which classes hard targets are: the same as a teacher's, or other ones; or whichever names and numbers tell."""

FEWEST_ROWS = 40
DRAWS = 1000
"""Of each kind of chance; a teacher counts as better or worse than chance where it beats, or loses to, all of them."""

MOST_ROWS = 2048
"""More of them tell nothing new."""


def is_at_chance(predicted_N: NDArray[np.int64], targets_N: NDArray[np.int64], *, num_classes: int) -> bool:
    """Whether a teacher is right less often than one who guesses among the labels, and no more often than it would be
    about shuffled labels. False where so few rows can't tell; those with an unknown target don't count.

    A bad teacher of these very classes is worse than a guess too, but shuffling its labels makes it worse still.
    """
    known_N = np.flatnonzero(targets_N >= 0)
    known_N = known_N[np.linspace(0, len(known_N) - 1, min(len(known_N), MOST_ROWS)).astype(np.int64)]
    if len(known_N) < FEWEST_ROWS:
        return False
    predicted_N, targets_N = predicted_N[known_N], targets_N[known_N]
    num_right = int((predicted_N == targets_N).sum())
    generator = np.random.default_rng(0)
    guesses = generator.binomial(len(targets_N), 1 / (int(targets_N.max()) + 1), DRAWS)
    if num_right >= guesses.min():
        return False
    if (targets_N == targets_N[0]).all():  # shuffled, they are the same
        shuffled = generator.binomial(len(targets_N), 1 / num_classes, DRAWS)
    else:
        shuffled = np.array([(predicted_N == generator.permutation(targets_N)).sum() for _ in range(DRAWS)])
    return num_right <= int(shuffled.max())
