"""Regressions are found, and noise is none."""

import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest

from softlab.bench.timing import Rate, Ratio, rates
from softlab.errors import InvalidOption
from tests.benchmarks.compare import compare, machine_of, record, show_comparison
from tests.benchmarks.figures import Better, Figure, read_figures
from tests.benchmarks.report import Report

SIZES = "256 images"


def noisy(value: float, *, rounds: int = 5, noise: float = 0.03, seed: int = 0) -> Ratio:
    """A ratio as a busy machine measures it."""
    random_numbers = random.Random(seed)
    found = [value * random_numbers.gauss(1, noise) for _ in range(rounds)]
    return Ratio(statistics.median(found), rounds=found)


def figure(value: float, *, better: Better = "higher", spread: float = 0.02) -> Figure:
    return Figure(value=value, lowest=round(value - spread, 4), highest=round(value + spread, 4), better=better)


@pytest.mark.parametrize(("better", "now", "is_worse"), [("higher", 0.8, True), ("lower", 0.8, False)])
def test_a_change_by_more_than_the_noise_is_seen_in_its_direction(better: Better, now: float, is_worse: bool) -> None:
    found = compare({"dump": figure(1.0, better=better)}, {"dump": figure(now, better=better)})

    assert found.worse == (["dump"] if is_worse else [])
    assert found.better == ([] if is_worse else ["dump"])


@pytest.mark.parametrize(
    ("then", "now"),
    [(figure(1.0), figure(0.97, spread=0.0)), (figure(1.0), figure(0.9, spread=0.05)), (figure(1.0), figure(1.0))],
    ids=["within a machine's mood", "within the noise", "the same"],
)
def test_what_is_within_the_noise_is_the_same(then: Figure, now: Figure) -> None:
    assert compare({"dump": then}, {"dump": now}).same == ["dump"]


def test_figures_that_are_new_or_gone_are_neither_worse_nor_better() -> None:
    found = compare({"old": figure(1.0)}, {"new": figure(0.1)})

    assert (found.new, found.gone) == (["new"], ["old"])
    assert found.worse == found.better == []


def test_noise_alone_is_hardly_ever_taken_for_a_change() -> None:
    """1,000 comparisons of 9 rounds with 5, in which nothing changed."""
    changed = [
        compare({"dump": Figure.of(noisy(0.9, rounds=9, seed=seed))}, {"dump": Figure.of(noisy(0.9, seed=-1 - seed))})
        for seed in range(1000)
    ]

    assert sum(bool(each.worse) for each in changed) <= 2


def test_a_slow_down_of_a_fifth_is_found_in_the_same_noise() -> None:
    found = [
        compare({"dump": Figure.of(noisy(0.9, rounds=9, seed=seed))}, {"dump": Figure.of(noisy(0.72, seed=-1 - seed))})
        for seed in range(200)
    ]

    assert sum(bool(each.worse) for each in found) >= 195


def test_a_slow_way_is_found_by_its_ratio_to_one_that_takes_turns_with_it() -> None:
    def way(loops: int) -> int:
        return len([None for _ in range(loops)]) and 1

    def measured(loops: int) -> Figure:
        found = rates({"plain": lambda: way(400_000), "ours": lambda: way(loops)}, rounds=5)
        ratio = found["ours"] / found["plain"]
        assert isinstance(ratio, Ratio)
        return Figure.of(ratio)

    assert compare({"ours": measured(400_000)}, {"ours": measured(4_000_000)}).worse == ["ours"]


@pytest.mark.parametrize(
    ("rounds", "lowest", "highest"),
    [
        ([2.0], 2.0, 2.0),
        ([3.0, 1.0, 2.0], 1.0, 3.0),
        ([1.0, 9.0, 2.0, 3.0, 0.1], 1.0, 3.0),
        ([float(number // 10) for number in range(90)], 1.0, 7.0),
    ],
    ids=["one", "few", "many but the extremes", "very many, ten by ten"],
)
def test_a_figure_lies_between_the_extremes_of_its_rounds(rounds: list[float], lowest: float, highest: float) -> None:
    found = Figure.of(Ratio(1.5, rounds=rounds))

    assert (found.value, found.lowest, found.highest) == (statistics.median(rounds), lowest, highest)


def write(path: Path, figures: dict[str, Figure]) -> None:
    record(path, figures, sizes=SIZES)


def test_recorded_figures_come_back(tmp_path: Path) -> None:
    figures = {"dump: resnet18, C=1000": figure(0.925), "seconds": figure(0.26, better="lower")}

    write(tmp_path / "results.md", figures)

    assert read_figures(tmp_path / "results.md", sizes=SIZES) == figures
    assert machine_of(tmp_path / "results.md") == machine_of(Report())


@pytest.mark.parametrize("behind", ["", "\n## Bars\n\nSome.\n"], ids=["the last section", "one in between"])
def test_recording_again_takes_the_place_of_what_was_recorded(tmp_path: Path, behind: str) -> None:
    path = tmp_path / "results.md"
    path.write_text("# Benchmark results\n\n## Dumping\n\nRows.\n")
    write(path, {"dump": figure(0.9)})
    path.write_text(path.read_text() + behind)

    write(path, {"dump": figure(0.5), "training": figure(1.0)})

    text = path.read_text()
    assert read_figures(path, sizes=SIZES)["dump"] == figure(0.5)
    assert text.count("## Quick figures") == 1
    assert text.startswith("# Benchmark results\n\n## Dumping\n\nRows.\n\n## Quick figures\n")
    assert text.endswith(behind or "|\n")


@pytest.mark.parametrize(
    ("text", "sizes", "told"),
    [
        (None, SIZES, "has no section 'Quick figures'. Write it first: --quick --record"),
        ("# Benchmark results\n", SIZES, "has no section"),
        ("## Quick figures\n\nOf 256 images.\n\n| what |\n", "10 images", "are not of 10 images"),
        ("## Quick figures\n\nOf 256 images.\n\n| what |\n", SIZES, "has the columns"),
    ],
    ids=["no file", "no section", "other sizes", "other columns"],
)
def test_figures_that_can_not_be_compared_are_refused(tmp_path: Path, text: str | None, sizes: str, told: str) -> None:
    path = tmp_path / "results.md"
    if text is not None:
        path.write_text(text)

    with pytest.raises(InvalidOption, match=told):
        read_figures(path, sizes=sizes)


def test_a_report_keeps_ratios_of_ways_that_took_turns_alone(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    rate: Sequence[Rate] = [Rate([1.0, 2.0, 3.0]), Rate([2.0, 2.0, 2.0])]

    report.bar("dump", rate[0] / rate[1], at_least=0.97)
    report.bar("share", rate[0] / rate[1], at_most=0.7)
    report.bar("bytes", 31.8, at_most=32)
    report.ratio("reading", rate[1] / rate[0])

    assert {what: (each.value, each.better) for what, each in report.figures.items()} == {
        "dump": (1.0, "higher"),
        "share": (1.0, "lower"),
        "reading": (1.0, "higher"),
    }
    show_comparison(report, {"dump": figure(8.0)}, where="RESULTS.md")
    assert "| worse | dump | 8.000 (7.980 to 8.020) | 1.000 (0.500 to 1.500) |" in capsys.readouterr().out
