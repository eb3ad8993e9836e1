import re

import pytest

from softlab.errors import InvalidOption
from softlab.shards import ShardGrid
from softlab.teacher.shares import Share

SHARDS = list(ShardGrid(num_views=2, num_samples=50, shard_rows=10))
"""Five in each of two views."""


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7", [7]),
        ("0,4,8-9", [0, 4, 8, 9]),
        ("3-4, 1,3", [1, 3, 4]),
        ("0/1", list(range(10))),
        ("0/2", [0, 2, 4, 5, 7, 9]),
        ("1/2", [1, 3, 6, 8]),
        ("6/8", [6]),
        ("12/16", []),
    ],
)
def test_a_share_is_one_of_n_or_a_list_of_numbers(text: str, numbers: list[int]) -> None:
    assert Share.parse(text).numbers(SHARDS) == numbers


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 10, 13])
def test_static_shares_are_all_shards_once_and_keep_the_views_of_a_sample_together(count: int) -> None:
    shares = [Share.parse(f"{index}/{count}").numbers(SHARDS) for index in range(count)]

    assert sorted(number for share in shares for number in share) == list(range(10))
    if count <= 5:
        assert all(
            {number % 5 for number in share if number < 5} == {number % 5 for number in share} for share in shares
        )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("8/8", "I of I/N counts from 0, so that the last of 8 shares is `shards = 7/8`"),
        ("0/0", "N is 1 or more"),
        ("a/2", "expected I/N, one of N shares, or numbers of shards. Write `shards = 0/8`"),
        ("5-", "expected I/N"),
    ],
)
def test_what_is_no_share_is_refused_with_what_to_write(text: str, told: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(told)):
        Share.parse(text)


def test_a_number_that_no_shard_has_is_refused() -> None:
    with pytest.raises(InvalidOption, match="there is no shard 10, they are 0 to 9"):
        Share.parse("3,8-10").numbers(SHARDS)
