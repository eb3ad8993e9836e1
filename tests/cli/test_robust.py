"""Robust students and teachers from the outside."""

import json
from pathlib import Path

from tests.cli.program import DATA, INPUT, TEST, Softlab, assert_refused

TRAIN = ("--source", DATA / "train", "--set", "log.track=[]", "--device", "cpu", *INPUT, "--epochs", "2")


def test_a_teacher_and_its_student_withstand_attacks(softlab: Softlab, tmp_path: Path) -> None:
    teacher = softlab(
        *(
            "train-teacher",
            "--teacher",
            "softlab:grey_mlp",
            "--out",
            tmp_path / "teacher",
            *TRAIN,
            "--max-samples",
            "300",
        ),
        *("--set", "robust={method = 'adversarial_training', epsilon = 0.1, steps = 2}"),
    )
    assert teacher.code == 0, teacher
    weights = tmp_path / "teacher/teacher/last.safetensors"
    dumped = softlab(
        *("dump-teacher", "--teacher", "softlab:grey_mlp", "--weights", weights, "--source", DATA / "train"),
        *("--limit", "300", "--out", tmp_path / "store", "--k", "3"),
    )
    assert dumped.code == 0, dumped
    recipe = tmp_path / "students.toml"
    recipe.write_text(
        "[robust]\nepsilon = 0.1\nsteps = 2\n"
        '[student.one]\nmodel = "softlab:grey_mlp"\n'
        '[student.other]\nmodel = "softlab:grey_mlp"\nrobust = { method = "ard" }\nloss = { temperature = 4 }\n'
    )

    trained = softlab(
        *("train-student", recipe, "--store", tmp_path / "store", "--out", tmp_path / "run", *TRAIN),
        *("--alpha", "1", "--set", "source.limit=300"),
    )

    assert trained.code == 0, trained
    students = json.loads((tmp_path / "run/run.json").read_text())["students"]
    assert students["one"]["robust"] == students["other"]["robust"] | {"method": "rslad"}
    assert students["other"]["robust"]["epsilon"] == 0.1
    assert students["one"]["objective"]["loss"]["temperature"] == 1.0
    measured = softlab(
        *("evaluate", "--model", "softlab:grey_mlp", "--weights", tmp_path / "run/one/last.safetensors", *TEST),
        *("--json", "--set", "evaluate.robust.epsilon=0.01", "--set", "evaluate.robust.steps=5"),
    )
    assert measured.code == 0, measured
    values = json.loads(measured.out)["values"]
    assert 0 < values["robust_accuracy"] < values["accuracy"]


def test_a_teacher_has_no_store_to_learn_from(softlab: Softlab, tmp_path: Path) -> None:
    answer = softlab(
        *("train-teacher", "--teacher", "softlab:grey_mlp", "--out", tmp_path, *TRAIN, "--set", "robust.epsilon=0.1")
    )

    assert_refused(answer, "Give a store, or say `robust.method = adversarial_training`")
