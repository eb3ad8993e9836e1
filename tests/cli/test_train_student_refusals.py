"""What `train-student` says to options that contradict each other, to the models or to the stores: one line each."""

from pathlib import Path

import pytest

from tests.cli.program import CNN, DATA, Softlab, assert_refused, train

TEST = ("--valid", str(DATA / "test"), "--set", "valid.limit=100")
TEACHER = "teacher.model=softlab:grey_resnet"
WEIGHTS = f"teacher.weights={DATA / 'teacher.safetensors'}"
INHERIT = "student.mlp.inherit.map"
ONE_STUDENT = (
    "a search tries one student on a validation source. Give one `student` (--student), and `valid.path` (--valid)."
)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--set", "student.mlp.teachers.alpha=2"],
            "student.mlp.teachers.alpha = 2.0: expected 0 to 1. Change `student.mlp.teachers.alpha`.",
        ),
        (
            ["--set", "student.mlp.loss.beta=2"],
            "--set student.mlp.loss.beta=2: unknown key student.mlp.loss.beta of kl.",
        ),
        (["--set", "student.mlp.run.epochs=7"], "--set student.mlp.run.epochs=7: unknown key student.mlp.run."),
        (["--set", "student.mlp.teachers=hot"], "student.mlp.teachers is 'hot', but must be a table."),
        (["--set", "prune.begin=0.5"], "`prune.amount` is missing. Give it as a flag, with --set, or in a recipe."),
        (["--set", "prune.amount=2"], "[prune]: amount = 2.0: expected a number between 0 and 1, such as 0.8."),
    ],
)
def test_options_of_a_student_that_can_not_be_are_refused(
    tmp_path: Path, stores: Path, softlab: Softlab, more: list[str], message: str
) -> None:
    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", *more))

    assert_refused(answer, message)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--set", f"{INHERIT}={{'1' = 'conv1'}}"],
            "[student.mlp.inherit] needs a teacher with weights. Give `teacher.model` and `teacher.weights`.",
        ),
        (
            ["--set", TEACHER, "--set", f"{INHERIT}={{'1' = 'conv1'}}"],
            "[student.mlp.inherit] needs a teacher with weights. Give `teacher.model` and `teacher.weights`.",
        ),
        (
            ["--set", TEACHER, "--set", WEIGHTS, "--set", f"{INHERIT}={{'1' = 'sten'}}"],
            "[student.mlp.inherit]: map: the teacher has no layer sten. Did you mean stem",
        ),
    ],
)
def test_layers_that_can_not_be_inherited_are_refused(
    tmp_path: Path, stores: Path, softlab: Softlab, more: list[str], message: str
) -> None:
    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", *more))

    assert_refused(answer, message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--valid-store", "anywhere"],
            "`valid_store` (--valid-store) without a validation source. Give `valid.path` (--valid), or leave",
        ),
        (["--search", "2"], ONE_STUDENT),
        (["--search", "2", *CNN, *TEST], ONE_STUDENT),
        (
            ["--set", "search.loss=['kl']", *TEST],
            "`search.trials` (--search) is missing. Give it as a flag, with --set, or in a recipe.",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_before_a_store_is_opened(
    tmp_path: Path, softlab: Softlab, more: list[str], message: str
) -> None:
    answer = softlab(*train(tmp_path / "no-store", tmp_path / "run", *more))

    assert_refused(answer, message)


def test_the_recipe_is_named_where_a_student_of_it_is_wrong(tmp_path: Path, softlab: Softlab) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[student.small]\nmodel = 'softlab:grey_mlp'\n[student.small.loss]\ntemperatur = 2\n")

    answer = softlab("train-student", recipe, *train(tmp_path / "no-store", tmp_path / "run")[1:])

    assert_refused(
        answer, f"error: {recipe}: unknown key student.small.loss.temperatur of kl. Did you mean temperature"
    )


def test_students_that_were_set_aside_are_named_below_the_table_of_all(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    more = (*CNN, "--set", "student.cnn.optimizer.learning_rate=1e38")
    command = train(stores / "train.zarr", tmp_path / "run", *more)

    answer, again = softlab(*command), softlab(*command)

    rows = [line.split()[0] for line in answer.out.splitlines()]
    assert {"mlp", "cnn"} <= set(rows)
    assert (answer.code, again.code) == (1, 1)
    assert answer.err.startswith("error: 1 of 2 students were set aside. cnn: TrainingFailed: student cnn: its loss is")
    assert again.err == answer.err
    assert (tmp_path / "run/mlp/last.safetensors").exists()
