"""Time several ways of doing one thing in turns, so that a machine whose speed drifts slows all of them alike."""

import operator
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from softlab.errors import InvalidOption

ROUNDS = 5


class Rate(float):
    """Units per second, the median over rounds. It knows the rate of each round, and so does the ratio of two rates
    from the same call of `rates`: how far the rounds scatter tells noise apart from a change."""

    rounds: tuple[float, ...]

    def __new__(cls, rounds: Iterable[float]) -> Self:
        rounds = tuple(rounds)
        rate = super().__new__(cls, statistics.median(rounds))
        rate.rounds = rounds
        return rate

    def __truediv__(self, other: float) -> float:
        """A Ratio, of another Rate with as many rounds."""
        if isinstance(other, Rate) and len(self.rounds) == len(other.rounds):
            return Ratio(float(self) / float(other), rounds=map(operator.truediv, self.rounds, other.rounds))
        return super().__truediv__(other)

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        """Copies, and what goes to other processes, are plain numbers."""
        return float, (float(self),)


class Ratio(float):
    """One way's rate as a share of another's: the ratio of their medians, which knows the ratio within each round."""

    rounds: tuple[float, ...]

    def __new__(cls, value: float, *, rounds: Iterable[float]) -> Self:
        ratio = super().__new__(cls, value)
        ratio.rounds = tuple(rounds)
        return ratio

    def inverted(self) -> "Ratio":
        """The other way's rate as a share of this one's: of the seconds that both take."""
        return Ratio(1 / float(self), rounds=(1 / each for each in self.rounds))

    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        """Likewise."""
        return float, (float(self),)


OnTurn = Callable[[str, int, int], None]
"""Called after each turn with the name of what was timed, how many turns are done, and how many there will be."""


def rates(
    ways: Mapping[str, Callable[[], int]],
    *,
    rounds: int,
    before: Mapping[str, Callable[[], object]] | None = None,
    on_turn: OnTurn | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Units per second of each way, the median over rounds, each a Rate. Calling a way does its work once and returns
    how many units that was. By `time.process_time` seconds are those of the processor, which other programs take less
    from.

    In a round each way has one turn; a first round to warm up is not counted. If `before` has a function under the name
    of a way, it is called before each turn of that way and is not timed.
    """
    if rounds < 1:
        raise InvalidOption(f"rounds = {rounds}: expected 1 or more. Change `rounds`.")
    measured: dict[str, list[float]] = {name: [] for name in ways}
    turns, total = 0, len(ways) * (rounds + 1)
    for round_index in range(rounds + 1):
        for name, way in ways.items():
            if before is not None and name in before:
                before[name]()
            rate = _rate(way, clock)
            if round_index > 0:
                measured[name].append(rate)
            turns += 1
            if on_turn is not None:
                on_turn(name, turns, total)
    return {name: Rate(values) for name, values in measured.items()}


def _rate(way: Callable[[], int], clock: Callable[[], float]) -> float:
    start = clock()
    units = way()
    return units / (clock() - start)
