"""Time several ways of doing one thing in turns, so that a machine whose speed drifts slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping

from softlab.errors import InvalidOption

ROUNDS = 5

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
    """Units per second of each way, the median over rounds. Calling a way does its work once and returns how many
    units that was. By `time.process_time` seconds are those of the processor, which other programs take less from.

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
    return {name: statistics.median(values) for name, values in measured.items()}


def _rate(way: Callable[[], int], clock: Callable[[], float]) -> float:
    start = clock()
    units = way()
    return units / (clock() - start)
