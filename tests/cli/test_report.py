"""`softlab report` from the outside, on runs of `softlab train-student`."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from softlab.cli.main import main
from softlab.report.write import Report
from tests.cli.program import TEST, Softlab, assert_refused, train

PICTURES = ["learning_curves.png", "against_parameters.png"]
ERROR = "TrainingFailed: student mlp: its loss is nan by step 8."


@pytest.fixture(scope="module")
def runs(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a student beside its baseline."""
    folder = tmp_path_factory.mktemp("runs")
    valid = ("--valid", TEST[1], "--set", "valid.limit=100", "--valid-store", stores / "test.zarr")
    for seed in (0, 1):
        options = ("--epochs", "2", "--baseline", "--seed", seed)
        arguments = train(stores / "train.zarr", folder / f"seed-{seed}", *map(str, (*valid, *options)))
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        assert not stopped.value.code
    return folder


def unfinished(run: Path, to: Path) -> Path:
    """As it was after its first epoch."""
    shutil.copytree(run, to)
    (to / "summary.json").unlink()
    first, second, *_ = (to / "metrics.jsonl").read_text().splitlines(keepends=True)
    (to / "metrics.jsonl").write_text(first + second)
    return to


def with_failure(run: Path, to: Path) -> Path:
    """As if a student had been set aside in its second epoch."""
    shutil.copytree(run, to)
    results = json.loads((to / "summary.json").read_text())
    results[0] |= {"last": None, "error": ERROR}
    (to / "summary.json").write_text(json.dumps(results))
    return to


def accuracies(run: Path, kind: str = "last") -> dict[str, float]:
    return {
        result["name"]: result[kind]["values"]["accuracy"] for result in json.loads((run / "summary.json").read_text())
    }


def row_of(out: str, student: str) -> list[str]:
    """Of the first table."""
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [student])


# What is shown and written.


def test_students_of_two_seeds_are_averaged_in_a_table(runs: Path, tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("report", runs / "seed-0", runs / "seed-1", "--out", tmp_path / "report")

    both = [accuracies(runs / f"seed-{seed}") for seed in (0, 1)]
    mean = 50 * sum(values["mlp"] for values in both)
    gain = 50 * sum(values["mlp"] - values["mlp-hard"] for values in both)
    row = row_of(answer.out, "mlp")
    assert (answer.code, answer.err) == (0, "")
    assert row[:4] == ["mlp", "2", f"{mean:.2f}", "±"]
    assert f"{gain:+.2f}" in row
    assert row_of(answer.out, "mlp-hard")[1] == "2"
    assert "mean ± standard deviation over the runs." in answer.out
    assert answer.out.endswith(f"written to {tmp_path / 'report'}: report.json, {', '.join(PICTURES)}\n")


def test_pictures_are_drawn_unless_they_are_not_wanted(runs: Path, tmp_path: Path, softlab: Softlab) -> None:
    with_plots = softlab("report", runs / "seed-0", "--out", tmp_path / "with")
    without = softlab("report", runs / "seed-0", "--out", tmp_path / "without", "--no-plots")

    assert (with_plots.code, without.code) == (0, 0)
    assert sorted(path.name for path in (tmp_path / "with").iterdir()) == sorted([*PICTURES, "report.json"])
    assert [path.name for path in (tmp_path / "without").iterdir()] == ["report.json"]
    for name in PICTURES:
        with Image.open(tmp_path / "with" / name) as image:
            assert (image.format, min(image.size) > 300) == ("PNG", True)
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20


def test_a_single_run_has_no_deviations(runs: Path, tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("report", runs / "seed-0", "--out", tmp_path, "--no-plots")

    accuracy, best = (accuracies(runs / "seed-0", kind)["mlp"] for kind in ("last", "best"))
    assert "±" not in answer.out
    assert row_of(answer.out, "mlp")[:4] == ["mlp", "1", f"{100 * accuracy:.2f}", f"{100 * best:.2f}"]


def test_json_is_the_written_report_and_nothing_else(runs: Path, tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("report", runs / "seed-0", runs / "seed-1", "--out", tmp_path, "--no-plots", "--json")

    assert (answer.code, answer.err) == (0, "")
    assert answer.out == (tmp_path / "report.json").read_text()
    found = msgspec.json.decode(answer.out, type=Report)
    assert [student.label for student in found.students] == ["mlp", "mlp-hard"]
    assert found.students[0].seeds == (0, 1)


def test_figures_have_room_in_a_narrow_terminal(
    runs: Path, tmp_path: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    named = with_failure(runs / "seed-0", tmp_path / "a-folder-with-a-rather-long-name")

    answer = softlab("report", runs / "seed-0", runs / "seed-1", named, "--out", tmp_path / "report", "--no-plots")

    assert "…" not in answer.out


# Runs without a last epoch.


def test_an_unfinished_run_is_shown_as_far_as_it_is_and_noted(runs: Path, tmp_path: Path, softlab: Softlab) -> None:
    run = unfinished(runs / "seed-0", tmp_path / "run")
    arguments = ("report", run, runs / "seed-1", "--out", tmp_path / "report", "--no-plots")

    answer, found = softlab(*arguments), json.loads(softlab(*arguments, "--json").out)

    assert answer.code == 0
    assert answer.err == (
        f"note: {run} is not finished: 1 of 2 epochs are there. The command that began it goes on with it.\n"
    )
    assert [student["label"] for student in found["students"]] == [
        "mlp @ run (1 of 2 epochs)",
        "mlp-hard @ run (1 of 2 epochs)",
        "mlp @ seed-1",
        "mlp-hard @ seed-1",
    ]
    assert [run["is_finished"] for run in found["runs"]] == [False, True]


def test_a_student_that_was_set_aside_is_in_the_table_and_its_error_below(
    runs: Path, tmp_path: Path, softlab: Softlab
) -> None:
    run = with_failure(runs / "seed-0", tmp_path / "run")

    answer = softlab("report", run, "--out", tmp_path / "report", "--no-plots")

    assert (answer.code, answer.err) == (0, "")
    assert row_of(answer.out, "mlp")[:4] == ["mlp", "(set", "aside", "after"]
    assert f"\nmlp (set aside after 2 of 2 epochs): {ERROR}\n" in answer.out
    assert row_of(answer.out, "mlp-hard")[1] == "1"


# What is refused.


def test_a_folder_that_is_no_run_is_refused(stores: Path, runs: Path, tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("report", runs / "seed-0", stores / "train.zarr", "--out", tmp_path / "report")

    assert_refused(answer, f"{stores / 'train.zarr'}: no run.json here", "Give the `out` folder of `softlab train-")
    assert not (tmp_path / "report").exists()


def spoil(run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)


DAMAGES: dict[str, tuple[Any, list[str]]] = {
    "unreadable": (lambda run: ((run / "run.json").unlink(), (run / "run.json").mkdir()), ["run.json: can't be read"]),
    "truncated": (lambda run: spoil(run, "metrics.jsonl", '{"epoch": 1, "st'), ["metrics.jsonl, line 1: not valid"]),
    "shortened": (
        lambda run: spoil(run, "metrics.jsonl", ""),
        ["ends at epoch 0 of 2 for mlp, but the run is finished"],
    ),
    "another softlab": (lambda run: spoil(run, "run.json", "{}"), ["not what a training run of this softlab writes"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_refused(runs: Path, tmp_path: Path, softlab: Softlab, damage: str) -> None:
    run = shutil.copytree(runs / "seed-0", tmp_path / "run")
    do, texts = DAMAGES[damage]
    do(run)

    answer = softlab("report", run, "--out", tmp_path / "report")

    assert_refused(answer, str(run), *texts, "or leave the run out.")


def test_a_run_that_is_given_twice_is_refused(runs: Path, tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("report", runs / "seed-0", runs / "seed-0", "--out", tmp_path / "report")

    assert_refused(answer, f"{runs / 'seed-0'}: this run is given twice. Give each once.")


def test_without_matplotlib_pictures_are_refused(
    runs: Path, tmp_path: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)

    refused = softlab("report", runs / "seed-0", "--out", tmp_path / "report")
    without = softlab("report", runs / "seed-0", "--out", tmp_path / "report", "--no-plots")

    assert_refused(
        refused, "plots need matplotlib, which isn't installed.", "pip install 'softlab[plots]'", "--no-plots"
    )
    assert without.code == 0


def test_no_run_at_all_is_wrong_usage(tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("report", "--out", tmp_path)

    assert answer.code == 2
    assert "Missing argument" in answer.err


def test_the_help_names_what_to_install(softlab: Softlab) -> None:
    assert "softlab[plots]" in softlab("report", "--help").out
