"""What `train-student` says to options that contradict each other, to the models or to the stores: one line each."""

from pathlib import Path

import pytest

from tests.cli.program import CNN, DATA, TEACHER, Softlab, assert_refused, train

TEST = ("--valid", str(DATA / "test"), "--valid-limit", "100")
WITH_WEIGHTS = TEACHER[:4]
INHERIT = "student.mlp.inherit.map"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--set", "student.mlp.train.alpha=2"],
            "[student.mlp.train]: alpha = 2.0: expected 0 to 1. Change --alpha.",
        ),
        (
            ["--set", "student.mlp.train.epochs=7"],
            "student mlp: epochs = 7, but the run's is 1, and all its students share it. Leave it out of the student's "
            "own options.",
        ),
        (["--set", "student.mlp.train=hot"], "student.mlp.train is 'hot', but must be a table."),
        (["--prune-begin", "0.5"], "train.prune.amount is missing. Give --prune, or train.prune.amount in a recipe."),
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
            "[student.mlp.inherit] needs a teacher with weights. Give --teacher and --teacher-weights.",
        ),
        (
            ["--teacher", "softlab:grey_cnn", "--set", f"{INHERIT}={{'1' = 'conv1'}}"],
            "[student.mlp.inherit] needs a teacher with weights. Give --teacher and --teacher-weights.",
        ),
        (
            [*WITH_WEIGHTS, "--set", f"{INHERIT}={{'1' = 'sten'}}"],
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
        (["--valid-store", "anywhere"], "--valid-store without a validation source. Give --valid, or leave the store"),
        (["--search", "2"], "a search tries one student on a validation source. Give one --student, and --valid."),
        (
            ["--search", "2", *CNN, *TEST],
            "a search tries one student on a validation source. Give one --student, and --valid.",
        ),
        (["--search-loss", "kl", *TEST], "search.trials is missing. Give --search, or search.trials in a recipe."),
    ],
)
def test_what_contradicts_itself_is_refused_before_a_store_is_opened(
    tmp_path: Path, softlab: Softlab, more: list[str], message: str
) -> None:
    answer = softlab(*train(tmp_path / "no-store", tmp_path / "run", *more))

    assert_refused(answer, message)


def test_the_recipe_is_named_where_a_student_of_it_is_wrong(tmp_path: Path, softlab: Softlab) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[student.small]\nmodel = 'softlab:grey_mlp'\n[student.small.train]\nlos = 'kl'\n")

    answer = softlab("train-student", recipe, *train(tmp_path / "no-store", tmp_path / "run")[1:])

    assert_refused(answer, f"error: {recipe}: [student.small.train]: unknown key los. Did you mean loss?")


def test_students_that_were_set_aside_are_named_below_the_table_of_all(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    more = (*CNN, "--set", "student.cnn.train.learning_rate=1e38")
    command = train(stores / "train.zarr", tmp_path / "run", *more)

    answer, again = softlab(*command), softlab(*command)

    rows = [line.split()[0] for line in answer.out.splitlines()]
    assert {"mlp", "cnn"} <= set(rows)
    assert (answer.code, again.code) == (1, 1)
    assert answer.err.startswith("error: 1 of 2 students were set aside. cnn: TrainingFailed: student cnn: its loss is")
    assert again.err == answer.err
    assert (tmp_path / "run/mlp/last.safetensors").exists()
