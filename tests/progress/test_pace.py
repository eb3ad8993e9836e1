from collections.abc import Iterable

import pytest

from softlab.progress.pace import Pace


def pace_of(points: Iterable[tuple[float, int]]) -> Pace:
    """Of times and what was done by then."""
    pace = Pace()
    for now, done in points:
        pace.add(done, now=now)
    return pace


def test_the_first_step_is_no_part_of_the_rate_however_long_it_took() -> None:
    points = [(1000 + 0.5 * step, 1 + step) for step in range(7)]  # a model was compiled until second 1000

    assert pace_of(points).rate == pytest.approx(2)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, 1)],
        [(0, 1), (60, 2), (120, 3)],  # few steps
        [(0.15 * step, step) for step in range(10)],  # a short time
        [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)],  # none at all
    ],
)
def test_without_a_basis_there_is_no_rate(points: list[tuple[float, int]]) -> None:
    assert pace_of(points).rate is None


def test_a_second_slow_step_is_soon_forgotten() -> None:
    compiling = [(0, 1), (60, 2)]
    fast = [(60 + 0.2 * step, 2 + step) for step in range(1, 201)]

    assert pace_of(compiling + fast[:9]).rate is None
    assert pace_of(compiling + fast[:20]).rate == pytest.approx(5, rel=0.01)
    assert pace_of(compiling + fast).rate == pytest.approx(5, rel=0.01)


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    slow = [(float(second), second) for second in range(100)]
    fast = [(99 + 0.5 * step, 99 + 10 * step) for step in range(1, 100)]

    assert pace_of(slow + fast).rate == pytest.approx(20)


def test_slow_steps_have_a_rate_too() -> None:
    assert pace_of((100.0 * step, 3 * step) for step in range(10)).rate == pytest.approx(0.03)


def test_many_calls_a_second_are_kept_as_few_points() -> None:
    pace = pace_of((step / 10_000, step) for step in range(100_000))

    assert pace.rate == pytest.approx(10_000, rel=0.01)
    assert len(pace._points) <= 101
