import threading

import pytest

from softlab.remote.parallel import in_parallel


def test_each_item_comes_with_its_result() -> None:
    assert dict(in_parallel(lambda number: number**2, range(20), jobs=4)) == {number: number**2 for number in range(20)}


def test_so_many_are_under_way_at_once() -> None:
    together = threading.Barrier(3, timeout=10)

    assert len(list(in_parallel(lambda _: together.wait(), range(9), jobs=3))) == 9


def test_after_an_error_nothing_more_begins() -> None:
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(in_parallel(fail, range(100), jobs=1))

    assert len(begun) < 100
    assert threading.active_count() == 1 or not [t for t in threading.enumerate() if "softlab-remote" in t.name]


def test_of_no_items_there_are_no_results() -> None:
    assert list(in_parallel(str, [], jobs=4)) == []
