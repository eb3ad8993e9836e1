import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.store.shard_numbers import parse_numbers, tell_numbers


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([], ""),
        ([5], "5"),
        ([0, 1, 2, 4, 8, 9], "0-2,4,8-9"),
        ([*range(0, 20, 2), 19, 20], "0,2,4,6,8 and 7 more"),
    ],
)
def test_numbers_are_told_as_their_first_ranges(numbers: list[int], told: str) -> None:
    assert tell_numbers(numbers) == told


@given(st.sets(st.integers(0, 40), min_size=1))
def test_what_is_told_in_full_is_read_back(numbers: set[int]) -> None:
    ranges = parse_numbers(tell_numbers(sorted(numbers), most=None))

    assert [number for first, last in ranges for number in range(first, last + 1)] == sorted(numbers)


@pytest.mark.parametrize("text", ["", "a", "1,", "3-1", "-1", "1-2-3", "1.5"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no list of numbers and ranges"):
        parse_numbers(text)
