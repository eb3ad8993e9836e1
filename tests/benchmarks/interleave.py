"""Time several ways of doing one thing in turns, so that a machine whose speed drifts slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping


def rates(ways: Mapping[str, Callable[[], int]], *, rounds: int) -> dict[str, float]:
    """Units per second of each way, the median over rounds; each call returns how many units it did. A round that is
    not counted goes first."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            units = way()
            seconds = time.perf_counter() - start
            if number > 0:
                measured[name].append(units / seconds)
    return {name: statistics.median(values) for name, values in measured.items()}
