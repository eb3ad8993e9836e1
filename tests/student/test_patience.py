import json
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.report.runs import read_run
from softlab.store.reader import Store
from softlab.student.options import Student
from softlab.student.run_folder import StudentResult
from tests.student.fashion import same_weights
from tests.student.pictures import make_learn, make_store, make_student, stop_at, train

STILL = make_learn(learning_rate=1e-12, alpha=1.0)
"""Its first epoch stays the best."""

SLOW = make_learn(learning_rate=1e-6, alpha=1.0)
"""Its weights move, its accuracy doesn't."""


def epochs_in(out: Path, name: str) -> list[int]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["epoch"] for line in lines if line["student"] == name]


def run(out: Path, store: Store, **options: Any) -> list[StudentResult]:
    still = Student(module=make_student(batch_norm=False), learn=STILL)
    students = {"still": still, "other": Student(module=make_student(seed=1))}
    return train(students, store, valid=store, out=out, epochs=5, patience=2, best_by="teacher_kl", **options)


def test_a_student_that_gets_no_better_stops_and_the_others_go_on(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")

    still, other = run(tmp_path / "run", store)

    assert still.epochs == 3  # its best was epoch 1, and 2 and 3 were none
    assert epochs_in(tmp_path / "run", "still") == [1, 2, 3]
    assert (tmp_path / "run/still/last.safetensors").exists()
    assert other.epochs is None or other.epochs > 3
    assert len(epochs_in(tmp_path / "run", "other")) >= 4


def test_a_run_ends_when_its_last_student_has_stopped(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    student = Student(module=make_student(batch_norm=False), learn=STILL)

    (result,) = train(
        {"still": student}, store, valid=store, out=tmp_path / "run", epochs=9, patience=1, best_by="teacher_kl"
    )

    assert result.epochs == 2
    assert read_run(tmp_path / "run").is_finished


def test_an_interrupted_run_knows_who_had_stopped(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    options: dict[str, Any] = {"epochs": 5, "patience": 2, "best_by": "accuracy", "valid": True}

    def students() -> dict[str, Student]:
        slow = Student(module=make_student(batch_norm=False), learn=SLOW)
        return {"slow": slow, "other": Student(module=make_student(seed=1))}

    straight = students()
    expected = train(straight, store, out=tmp_path / "straight", **options)
    with pytest.raises(KeyboardInterrupt):
        train(students(), store, out=tmp_path / "run", on_progress=stop_at(11), **options)
    gone_on = students()
    found = train(gone_on, store, out=tmp_path / "run", **options)

    assert expected[0].epochs == 3
    assert [(each.epochs, each.last, each.best) for each in found] == [
        (each.epochs, each.last, each.best) for each in expected
    ]
    assert all(same_weights(straight[name].module, gone_on[name].module) for name in straight)
    assert not same_weights(gone_on["slow"].module, make_student(batch_norm=False))


def test_patience_without_anything_to_measure_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidOption, match=r"run\.patience: there is nothing to measure epochs on\. Give `valid\.path`"
    ):
        train(make_student(), make_store(tmp_path / "store"), patience=2)
