from pathlib import Path

import pytest

from softlab.report.kinds import Member, group_by_kind
from softlab.report.runs import TrainingRun, read_run
from tests.report.folders import Settings, copied, copy_run, set_aside


def named(groups: list[list[Member]]) -> list[list[str]]:
    """`folder/student` of each."""
    return [[f"{run.path.name}/{result.name}" for run, result in members] for members in groups]


def student_groups(*runs: TrainingRun) -> list[list[str]]:
    """Folders of the student, without its baseline."""
    groups = [[name.split("/")[0] for name in group if name.endswith("/small")] for group in named(group_by_kind(runs))]
    return [group for group in groups if group]


def test_students_that_differ_in_their_seed_are_one_and_so_are_their_baselines(runs: Path) -> None:
    groups = group_by_kind([read_run(runs / name) for name in ("seed-0", "seed-1")])

    assert named(groups) == [["seed-0/small", "seed-1/small"], ["seed-0/small-hard", "seed-1/small-hard"]]


def test_they_are_in_the_order_of_the_runs(runs: Path) -> None:
    groups = group_by_kind([read_run(runs / name) for name in ("bare", "seed-1", "seed-0")])

    assert named(groups)[:2] == [["bare/small"], ["seed-1/small", "seed-0/small"]]


DIFFERENCES = {
    "an option of the run": lambda settings: settings["run"].update(batch_size=7),
    "how stores are gone through": lambda settings: settings["distil"].update(view_order="random"),
    "store": lambda settings: settings.update(stores=["0123"]),
    "several stores": lambda settings: settings["stores"].append("0123"),
    "validation": lambda settings: settings.update(valid="0123"),
    "the metric of the best epoch": lambda settings: settings.update(best_by="teacher_kl"),
    "views": lambda settings: settings["views"].update(as_the_teacher_saw="no"),
    "module": lambda settings: settings["students"]["small"].update(module="0123"),
    "kind of device": lambda settings: settings["students"]["small"]["device"].update(type="cuda"),
    "how it runs there": lambda settings: settings["students"]["small"]["device"].update(autocast="bfloat16"),
    "objective": lambda settings: settings["students"]["small"]["objective"]["teachers"].update(alpha=0.5),
    "an option of its own": lambda settings: settings["students"]["small"]["optimizer"].update(learning_rate=0.5),
    "something unheard of": lambda settings: settings.update(novelty=True),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_students_that_differ_in_more_are_two(runs: Path, tmp_path: Path, what: str) -> None:
    other = copied(runs / "seed-1", tmp_path / "other", DIFFERENCES[what])

    assert student_groups(read_run(runs / "seed-0"), other) == [["seed-0"], ["other"]]


def drop_baseline(settings: Settings) -> None:
    settings["distil"]["baseline"] = False


SAME = {
    "baselines beside it": drop_baseline,
    "versions of libraries": lambda settings: settings["versions"].update(torch="9.9"),
    "other students beside it": lambda settings: settings["students"]["small-hard"].update(module="0123"),
    "options of other students": lambda settings: settings["students"]["small-hard"]["optimizer"].update(
        learning_rate=0.5
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_reach_a_student_makes_no_other_one(runs: Path, tmp_path: Path, what: str) -> None:
    other = copied(runs / "seed-1", tmp_path / "other", SAME[what])

    assert student_groups(read_run(runs / "seed-0"), other) == [["seed-0", "other"]]


def test_students_of_one_run_are_never_one(runs: Path, tmp_path: Path) -> None:
    """Here they differ in nothing but the name."""

    def alike(settings: Settings) -> None:
        settings["students"]["small-hard"] = settings["students"]["small"]

    groups = group_by_kind([copied(runs / "seed-0", tmp_path / "run", alike)])

    assert named(groups) == [["run/small"], ["run/small-hard"]]


def test_students_that_began_otherwise_with_the_same_seed_are_not_one(runs: Path, tmp_path: Path) -> None:
    """Both runs with weights from elsewhere, and both with random ones: which belong together is not known, unless the
    weights are the same."""

    def pretrained(settings: Settings) -> None:
        settings["students"]["small"]["initial_weights"] = "0123"

    read = [read_run(runs / name) for name in ("seed-0", "seed-1")]
    read += [copied(run.path, tmp_path / f"pretrained-{run.seed}", pretrained) for run in read]

    assert student_groups(*read) == [["seed-0"], ["seed-1"], ["pretrained-0", "pretrained-1"]]


def test_a_run_that_was_repeated_is_the_same_student(runs: Path, tmp_path: Path) -> None:
    repeated = copied(runs / "seed-0", tmp_path / "again")

    assert student_groups(read_run(runs / "seed-0"), repeated) == [["seed-0", "again"]]


def test_a_student_of_an_unfinished_run_stays_alone(runs: Path, tmp_path: Path) -> None:
    again = copied(runs / "stopped", tmp_path / "again", lambda settings: settings["run"].update(seed=1))

    assert student_groups(read_run(runs / "stopped"), again) == [["stopped"], ["again"]]


def test_a_student_that_was_set_aside_stays_alone(runs: Path, tmp_path: Path) -> None:
    failed = read_run(set_aside(copy_run(runs / "seed-1", tmp_path / "failed")))

    groups = group_by_kind([read_run(runs / "seed-0"), failed])

    assert named(groups) == [["seed-0/small"], ["seed-0/small-hard", "failed/small-hard"], ["failed/small"]]
