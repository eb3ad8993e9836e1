"""Which shards of a dump are still to be computed, and which are set aside because they fail again and again."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping

MAX_TRIES = 3
"""Of a shard whose own error ends it each time."""

MAX_SET_ASIDE = 10
"""With more than so many the fault isn't that of single shards."""


class ShardQueue:
    """Shards by their numbers in `DumpJob.shards`. Each that was taken comes back as `done`, `lost` or `failed`."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._waiting = deque(numbers)
        self._taken: set[int] = set()
        self._were_lost: set[int] = set()
        self._tries: Counter[int] = Counter()
        self._set_aside: dict[int, str] = {}

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done, or so many shards fail that it isn't worth going on."""
        return not self.num_left or len(self._set_aside) > MAX_SET_ASIDE

    @property
    def num_left(self) -> int:
        """Shards that are neither done nor set aside."""
        return len(self._waiting) + len(self._taken)

    @property
    def set_aside(self) -> Mapping[int, str]:
        """The last error of each shard that failed MAX_TRIES times."""
        return self._set_aside

    def take(self, *, has_others: bool = False) -> int | None:
        """The next one to be computed; None while none waits. A worker that `has_others`, which aren't done yet, gets
        none that was lost before: such a one may end its worker again, and the others would be lost with it."""
        if not self._waiting or (has_others and self._waiting[0] in self._were_lost):
            return None
        number = self._waiting.popleft()
        self._taken.add(number)
        return number

    def done(self, number: int) -> None:
        self._taken.remove(number)

    def lost(self, number: int) -> None:
        """Whoever computed it was ended, as a preemptible machine is: it is computed again, and that isn't counted. It
        comes last, so that one which kills its worker stops none of the others."""
        self._taken.remove(number)
        self._were_lost.add(number)
        self._waiting.append(number)

    def failed(self, number: int, error: str) -> None:
        """Its own error: it is computed again, as others may have been there just then, up to MAX_TRIES times."""
        self._taken.remove(number)
        self._tries[number] += 1
        if self._tries[number] < MAX_TRIES:
            self._waiting.append(number)
        else:
            self._set_aside[number] = error
