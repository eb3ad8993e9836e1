"""Samples of a batch that share a sequence: less of it only fills up. Each of them sees itself alone, so what a model
tells of it is the same as without; stores, keys and rows know nothing of packing.

    input_ids      a a a a b b b b b .        two sequences of at most max_length tokens
                   c c c c c d d e e e
    position_ids   0 1 2 3 0 1 2 3 4 0        they begin anew where another sample begins
"""

from collections.abc import Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """Where a sample is read."""

    sequence: int
    start: int


def pack(lengths: Sequence[int], *, max_length: int) -> tuple[Place, ...]:
    """For each sample the sequence with the least room that it fits into, the longest samples first (best fit
    decreasing, Johnson 1973). Sequences are counted in the order of their first sample."""
    taken: list[int] = []
    places: dict[int, Place] = {}
    for sample in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        fitting = [(used, -number) for number, used in enumerate(taken) if used + lengths[sample] <= max_length]
        if not fitting:
            taken.append(0)
        number = -max(fitting)[1] if fitting else len(taken) - 1
        places[sample] = Place(number, taken[number])
        taken[number] += lengths[sample]
    in_order = [places[sample] for sample in range(len(lengths))]
    numbers = list(dict.fromkeys(place.sequence for place in in_order))
    return tuple(Place(numbers.index(place.sequence), place.start) for place in in_order)


def one_a_sequence(lengths: Sequence[int]) -> tuple[Place, ...]:
    """Where nothing is packed."""
    return tuple(Place(sample, 0) for sample in range(len(lengths)))
