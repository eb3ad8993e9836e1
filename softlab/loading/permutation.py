"""A pseudo-random order of any number of things, of which each place is computed by itself, without the others.

A place p becomes two digits, p = B a + A, and in each round one of them is moved on by a hash of the other one:

    A := (A + hash(B)) mod a        in even rounds
    B := (B + hash(A)) mod b        in odd rounds

Each round can be undone, so that no two places become the same (a Feistel network in two radices; Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002, section 5). With a b a little above N, the few numbers that come out at N
or above are put through again until they are below: as the whole is a permutation, they find the free ones ("cycle
walking", section 4).
"""

# Shape letters: M places.

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlab.loading.philox import generator_of

ROUNDS = 8
"""Four make a permutation that can't be told from a random one by few of its values, and each two more multiply how
many that takes (Patarin 2010): an epoch shows all of them."""

MAX_SIZE = 1 << 62
"""Its digits have at most 31 bits."""

Numbers = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Permutation:
    """Of the numbers 0 to size - 1."""

    size: int
    keys: Numbers
    """One for each round."""

    @classmethod
    def drawn(cls, size: int, *, key: tuple[int, int], stream: int) -> "Permutation":
        """Another one for each key and stream, the same on every machine."""
        assert 1 <= size <= MAX_SIZE, "of something, and its digits fit"
        return cls(size, generator_of(key, stream=stream).integers(1 << 64, size=ROUNDS, dtype=np.uint64))

    def at(self, start: int, stop: int) -> NDArray[np.int64]:
        """What stands at the places from start to stop - 1, int64 [M]."""
        assert 0 <= start <= stop <= self.size, "places that there are"
        found_M = self._once(np.arange(start, stop, dtype=np.uint64))
        while len(above := np.flatnonzero(found_M >= self.size)):
            found_M[above] = self._once(found_M[above])
        return found_M.astype(np.int64)

    def _once(self, places_M: Numbers) -> Numbers:
        """A permutation of the numbers below a b."""
        a = np.uint64(math.isqrt(self.size - 1) + 1)
        b = np.uint64(-(-self.size // int(a)))
        high_M, low_M = np.divmod(places_M, a)
        for number, key in enumerate(self.keys):
            if number % 2 == 0:
                low_M = _moved(low_M, high_M, radix=a, key=key)
            else:
                high_M = _moved(high_M, low_M, radix=b, key=key)
        return high_M * a + low_M


def _moved(digit_M: Numbers, other_M: Numbers, *, radix: np.uint64, key: np.uint64) -> Numbers:
    by_M = (_mixed(other_M + key) >> np.uint64(32)) * radix >> np.uint64(32)  # below the radix, which has 31 bits
    moved_M = digit_M + by_M
    return moved_M - radix * (moved_M >= radix)


def _mixed(numbers_M: Numbers) -> Numbers:
    """Each bit of a number changes about half of those that come out (MurmurHash3's last step)."""
    numbers_M = (numbers_M ^ (numbers_M >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    numbers_M = (numbers_M ^ (numbers_M >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return numbers_M ^ (numbers_M >> np.uint64(33))
