"""Numbers of shards as ranges: `0,4,8-11` is what messages name, and what `--shards` takes."""

import re
from collections.abc import Iterable

MOST_RANGES = 5
"""Named in one message."""


def tell_numbers(numbers: Iterable[int], *, most: int | None = MOST_RANGES) -> str:
    """Ascending numbers, as the first `most` ranges and how many more there are; None for all of them."""
    ranges = _ranges_of(numbers)
    told = ",".join(_tell_range(*each) for each in ranges[:most])
    more = sum(last - first + 1 for first, last in ranges[len(ranges) if most is None else most :])
    return told + (f" and {more:,} more" if more else "")


def parse_numbers(text: str) -> list[tuple[int, int]]:
    """First and last number of each range, as they were given. Raises ValueError."""
    found = [re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part.strip()) for part in text.split(",")]
    ranges = [(int(each[1]), int(each[2] or each[1])) for each in found if each is not None]
    if len(ranges) < len(found) or any(first > last for first, last in ranges):
        raise ValueError(f"{text!r} is no list of numbers and ranges")
    return ranges


def _ranges_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ranges


def _tell_range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
