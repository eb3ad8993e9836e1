import copy
import time

import pytest

from softlab.bench.timing import Rate, Ratio, rates
from softlab.errors import InvalidOption


def test_ways_take_turns_and_the_first_round_is_not_counted() -> None:
    turns: list[str] = []
    seconds = iter([0.2, 0.001, 0.001])

    def slow_at_first() -> int:
        turns.append("slow")
        time.sleep(next(seconds))
        return 10

    def other() -> int:
        turns.append("other")
        return 1

    found = rates({"slow": slow_at_first, "other": other}, rounds=2)

    assert turns == ["slow", "other"] * 3
    assert 50 < found["slow"] < 10_000


def test_a_rate_is_the_median_over_rounds() -> None:
    seconds = iter([0.0, 0.02, 0.3, 0.02])

    def way() -> int:
        time.sleep(next(seconds))
        return 1

    found = rates({"way": way}, rounds=3)

    assert 10 < found["way"] <= 50


def test_what_comes_before_a_turn_is_not_timed() -> None:
    calls: list[str] = []

    def prepare() -> None:
        calls.append("prepare")
        time.sleep(0.05)

    def way() -> int:
        calls.append("way")
        return 1

    found = rates({"way": way}, rounds=2, before={"way": prepare})

    assert calls == ["prepare", "way"] * 3
    assert found["way"] > 50


def test_each_turn_is_reported() -> None:
    reported: list[tuple[str, int, int]] = []

    rates({"a": lambda: 1, "b": lambda: 1}, rounds=1, on_turn=lambda *turn: reported.append(turn))

    assert reported == [("a", 1, 4), ("b", 2, 4), ("a", 3, 4), ("b", 4, 4)]


def test_seconds_are_those_of_the_clock_that_is_given() -> None:
    ticks = iter(range(100))

    found = rates({"way": lambda: 3}, rounds=2, clock=lambda: float(next(ticks)))

    assert found == {"way": 3.0}


def test_no_round_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"rounds = 0: expected 1 or more. Change `rounds`"):
        rates({"way": lambda: 1}, rounds=0)


def test_a_ratio_of_two_rates_knows_that_of_each_round() -> None:
    ratio = Rate([2.0, 30.0, 8.0]) / Rate([1.0, 10.0, 8.0])

    assert isinstance(ratio, Ratio)
    assert ratio == 8 / 8
    assert ratio.rounds == (2.0, 3.0, 1.0)
    assert ratio.inverted().rounds == (1 / 2, 1 / 3, 1.0)


@pytest.mark.parametrize("other", [4.0, 2, Rate([1.0, 2.0])], ids=["a number", "an integer", "other rounds"])
def test_a_rate_divided_by_anything_else_is_a_number(other: float) -> None:
    found = Rate([2.0, 4.0, 6.0]) / other

    assert type(found) is float
    assert found == 4.0 / float(other)


def test_a_copy_of_a_rate_is_a_plain_number() -> None:
    assert type(copy.deepcopy(Rate([1.0, 2.0]))) is float
    assert type(copy.deepcopy(Rate([1.0]) / Rate([2.0]))) is float
