# Shape letters: H height, W width.

import io
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from softlab.errors import InvalidOption
from softlab.report.compare import ComparedStudent, Spread, compare_students, spread
from softlab.report.plots import (
    COLOURS,
    check_can_plot,
    draw_against_parameters,
    draw_learning_curves,
)
from softlab.report.runs import read_run
from tests.student.pictures import make_store, make_student, pictures, train

PANEL_WIDTH = 5 * 150
"""Of one panel in pixels; the legend is to the right of it."""

Pixels = NDArray[np.uint8]


def compared(runs: Path, *names: str) -> list[ComparedStudent]:
    return list(compare_students([read_run(runs / name) for name in names]))


def changed(student: ComparedStudent, **values: object) -> ComparedStudent:
    return msgspec.structs.replace(student, **values)


def accuracy(value: float) -> dict[str, Spread]:
    return {"accuracy": Spread(mean=value, std=None, values=(value,))}


def pixels(picture: bytes | None) -> Pixels:
    """[H, W, 3]"""
    assert picture is not None
    image = Image.open(io.BytesIO(picture))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def where(picture: Pixels, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pixels that have this colour of the students'."""
    colour = np.array([int(COLOURS[number][at : at + 2], 16) for at in (1, 3, 5)])
    rows, columns = np.nonzero((picture == colour).all(axis=2))
    return rows, columns


def has(picture: Pixels, number: int) -> bool:
    return len(where(picture, number)[0]) > 50


# Learning curves.


def test_curves_of_all_students_are_drawn_in_both_panels(runs: Path) -> None:
    small, baseline = compared(runs, "seed-0", "seed-1")
    students = [small, baseline, changed(small, label="large", name="large")]

    picture = pixels(draw_learning_curves(students))

    accuracies, losses = picture[:, :PANEL_WIDTH], picture[:, PANEL_WIDTH : 2 * PANEL_WIDTH]
    assert has(accuracies, 0)
    assert has(accuracies, 1)
    assert has(losses, 0)
    assert has(losses, 1)
    assert not has(picture, 2), "a student and its baseline share a colour"


def test_without_validation_the_loss_is_drawn_alone(runs: Path) -> None:
    both, loss = draw_learning_curves(compared(runs, "seed-0")[:1]), draw_learning_curves(compared(runs, "bare"))

    assert pixels(both).shape[1] - pixels(loss).shape[1] == PANEL_WIDTH
    assert has(pixels(loss)[:, :PANEL_WIDTH], 0)


def test_without_hard_targets_the_curves_are_of_kl_to_the_teacher(tmp_path: Path) -> None:
    unlabelled = replace(pictures(class_names=None), targets_N=None)
    store = make_store(tmp_path / "store", source=unlabelled)
    train(make_student(), store, source=unlabelled, valid=store, out=tmp_path / "run", alpha=1.0)

    (student,) = compared(tmp_path, "run")
    picture = pixels(draw_learning_curves([student]))

    divergences = [point.values["teacher_kl"].mean for point in student.curve]
    assert (student.best_by, len(divergences)) == ("teacher_kl", 3)
    assert student.best is not None
    assert student.best.mean == min(divergences)
    assert has(picture[:, :PANEL_WIDTH], 0)
    assert has(picture[:, PANEL_WIDTH : 2 * PANEL_WIDTH], 0)


def test_a_curve_rises_with_the_accuracy(runs: Path) -> None:
    (student,) = compared(runs, "stopped")
    (point,) = student.curve
    rising = [
        msgspec.structs.replace(point, epoch=epoch, values=accuracy(0.1 * epoch), train_loss=None)
        for epoch in range(1, 9)
    ]

    picture = pixels(draw_learning_curves([changed(student, curve=tuple(rising))]))[:, :PANEL_WIDTH]

    rows, columns = where(picture, 0)
    assert np.corrcoef(columns, -rows)[0, 1] > 0.98


def test_deviations_are_a_band_around_the_mean(runs: Path) -> None:
    averaged, single = compared(runs, "seed-0", "seed-1")[0], compared(runs, "seed-0")[0]

    band = pixels(draw_learning_curves([averaged]))[:, :PANEL_WIDTH]
    line = pixels(draw_learning_curves([single]))[:, :PANEL_WIDTH]

    assert bluish(band) > 5 * bluish(line)


def bluish(picture: Pixels) -> int:
    """Pixels in a light tint of the first colour."""
    red, green, blue = (picture[:, :, channel].astype(int) for channel in range(3))
    return int(((blue - red > 15) & (blue > 200) & (green > 180)).sum())


def test_where_no_epoch_is_finished_there_are_no_curves(runs: Path) -> None:
    assert draw_learning_curves([changed(compared(runs, "stopped")[0], curve=())]) is None
    assert draw_learning_curves([]) is None


def test_many_students_and_epochs_are_drawn(runs: Path) -> None:
    """More than there are colours, with names longer than a line of the legend, for more epochs than markers."""
    (student,) = compared(runs, "stopped")
    curve = tuple(msgspec.structs.replace(student.curve[0], epoch=epoch) for epoch in range(1, 101))
    students = [
        changed(student, label=f"{name} @ a-rather-long-name-of-a-run", name=name, curve=curve)
        for name in (f"student-{number}" for number in range(20))
    ]

    picture = pixels(draw_learning_curves(students))

    assert has(picture, len(COLOURS) - 1)
    assert picture.shape[0] > 20 * 30, "the legend has room"


def test_labels_that_mean_something_to_matplotlib_are_in_the_legend(runs: Path) -> None:
    (student,) = compared(runs, "stopped")
    labels = ["_hidden", "a$b", "$x^{$", r"back\slash"]

    students = []
    for number, label in enumerate(labels, start=1):
        point = msgspec.structs.replace(student.curve[0], values=accuracy(0.2 * number), train_loss=spread([number]))
        students.append(changed(student, label=label, name=label, curve=(point,)))
    picture = pixels(draw_learning_curves(students))

    for number in range(len(labels)):
        columns = np.unique(where(picture, number)[1])
        assert (np.diff(columns) > 60).sum() == 2, "its colour is in three places: both panels and the legend"


# Accuracy against parameters.


def test_a_bigger_and_better_student_is_to_the_right_and_above(runs: Path) -> None:
    small, _ = compared(runs, "seed-0")
    small = changed(small, values=accuracy(0.5), num_parameters=1_000)
    large = changed(small, label="large", name="large", values=accuracy(0.8), num_parameters=3_000)

    picture = pixels(draw_against_parameters([small, large]))[:, :PANEL_WIDTH]

    (small_rows, small_columns), (large_rows, large_columns) = where(picture, 0), where(picture, 1)
    assert large_rows.mean() < small_rows.mean() - 100
    assert large_columns.mean() > small_columns.mean() + 100


def test_sizes_that_differ_by_much_are_on_a_logarithmic_axis(runs: Path) -> None:
    small, _ = compared(runs, "seed-0")
    sizes = {"small": 1_000, "middle": 30_000, "large": 900_000}
    students = [changed(small, label=name, name=name, num_parameters=size) for name, size in sizes.items()]

    picture = pixels(draw_against_parameters(students))[:, :PANEL_WIDTH]

    first, second, third = (where(picture, number)[1].mean() for number in range(3))
    assert third - second == pytest.approx(second - first, abs=3)


def test_deviations_are_bars(runs: Path) -> None:
    (student, _) = compared(runs, "seed-0", "seed-1")

    with_bar = where(pixels(draw_against_parameters([student]))[:, :PANEL_WIDTH], 0)[0]
    without = where(pixels(draw_against_parameters(compared(runs, "seed-0")[:1]))[:, :PANEL_WIDTH], 0)[0]

    assert np.ptp(with_bar) > 5 * np.ptp(without)


def test_students_without_an_accuracy_or_a_size_are_left_out(runs: Path) -> None:
    """Of a run without validation, and of an unfinished one."""
    small, _ = compared(runs, "seed-0")
    students = compared(runs, "bare", "stopped")

    assert draw_against_parameters(students) is None
    assert draw_against_parameters([*students, small]) is not None


# Without matplotlib.


def test_without_matplotlib_an_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_can_plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(InvalidOption, match=r"Install it: pip install 'softlab\[plots\]', or give --no-plots\."):
        check_can_plot()
