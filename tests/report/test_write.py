import json
import sys
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from softlab.errors import InvalidOption, StoreWriteFailed
from softlab.report.compare import compare_students
from softlab.report.runs import read_run
from softlab.report.write import PICTURES, REPORT, Report, write_report


def seeds(runs: Path) -> list[Path]:
    return [runs / "seed-0", runs / "seed-1"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_report_is_json_and_two_pictures(runs: Path, tmp_path: Path) -> None:
    report = write_report(seeds(runs), tmp_path / "a" / "report")

    assert names(tmp_path / "a" / "report") == sorted([REPORT, *PICTURES])
    assert report.plots == PICTURES
    for name in PICTURES:
        with Image.open(tmp_path / "a" / "report" / name) as image:
            assert image.format == "PNG"
            image.load()


def test_the_json_is_the_whole_report(runs: Path, tmp_path: Path) -> None:
    report = write_report([*seeds(runs), runs / "stopped", runs / "failed"], tmp_path, plots=False)

    text = (tmp_path / REPORT).read_bytes()
    assert text.endswith(b"}\n")
    assert msgspec.json.decode(text, type=Report) == report
    assert report.students == compare_students(
        [read_run(runs / run) for run in ("seed-0", "seed-1", "stopped", "failed")]
    )
    assert [(run.path, run.seed, run.is_finished, run.epochs_done, run.num_epochs) for run in report.runs] == [
        (str(runs / "seed-0"), 0, True, 2, 2),
        (str(runs / "seed-1"), 1, True, 2, 2),
        (str(runs / "stopped"), 0, False, 1, 2),
        (str(runs / "failed"), 0, True, 2, 2),
    ]


def test_a_student_that_was_set_aside_is_in_the_report_with_its_error(runs: Path, tmp_path: Path) -> None:
    write_report([runs / "failed"], tmp_path, plots=False)

    failed, other = json.loads((tmp_path / REPORT).read_text())["students"]
    assert failed["label"] == "small (set aside after 1 of 2 epochs)"
    assert failed["error"].startswith("TrainingFailed: student small: its loss is nan")
    assert (failed["values"], other["error"]) == ({}, None)


def test_what_has_nothing_to_show_is_not_drawn(runs: Path, tmp_path: Path) -> None:
    report = write_report([runs / "bare"], tmp_path)

    assert report.plots == ("learning_curves.png",)
    assert names(tmp_path) == ["learning_curves.png", REPORT]


def test_an_older_report_is_replaced_with_its_pictures_and_nothing_else(runs: Path, tmp_path: Path) -> None:
    write_report(seeds(runs), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")

    report = write_report([runs / "bare"], tmp_path, plots=False)

    assert names(tmp_path) == ["notes.txt", REPORT]
    assert msgspec.json.decode((tmp_path / REPORT).read_bytes(), type=Report) == report


def test_a_report_may_lie_in_the_folder_of_a_run(runs: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (runs / "bare").iterdir() if path.is_file()}

    write_report([runs / "bare"], runs / "bare")

    assert all(path.read_bytes() == data for path, data in before.items())
    for name in [REPORT, "learning_curves.png"]:
        (runs / "bare" / name).unlink()


def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


def test_without_matplotlib_nothing_is_written_but_json_can_be(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_matplotlib(monkeypatch)

    with pytest.raises(InvalidOption, match="plots need matplotlib"):
        write_report(seeds(runs), tmp_path / "report")
    assert not (tmp_path / "report").exists()
    assert write_report(seeds(runs), tmp_path / "report", plots=False).plots == ()


def test_of_a_folder_that_is_no_run_nothing_is_written(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="this is not a training run"):
        write_report([*seeds(runs), runs / "train"], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("")

    with pytest.raises(StoreWriteFailed, match="can't write"):
        write_report(seeds(runs), tmp_path / "report", plots=False)
